package natscluster

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sechlol/go-message-hub/internal/cluster/lease"
)

func TestOpenBuckets_Settings(t *testing.T) {
	b := join(t, testConfig(startNATS(t, nil))).session.Load().buckets.Load()
	for kv, ttl := range map[jetstream.KeyValue]time.Duration{b.nodes: 0, b.leases: lease.Duration} {
		status, err := kv.Status(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if c := status.Config(); c.TTL != ttl || c.History != 1 || c.Replicas != 1 || c.Storage != jetstream.FileStorage {
			t.Errorf("%+v", c)
		}
	}
}

func TestOpenBuckets_AcceptsOtherSettings(t *testing.T) {
	c := join(t, testConfig(startNATS(t, nil)))
	config := jetstream.KeyValueConfig{Bucket: nodesBucket("other"), History: 7, Description: "of an operator"}
	if _, err := testJetStream(t, c).CreateKeyValue(testContext(t), config); err != nil {
		t.Fatal(err)
	}
	other := c.config
	other.Name = "other"
	if node := join(t, other).Node(); node != 1 {
		t.Errorf("node %d", node)
	}
}

// TestKVStore_IsLeaseStore checks the errors by which package lease decides.
func TestKVStore_IsLeaseStore(t *testing.T) {
	ctx := testContext(t)
	c := join(t, testConfig(startNATS(t, nil)))
	s := kvStore{c, func(b *buckets) jetstream.KeyValue { return b.leases }}
	want := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	_, _, err := s.Get(ctx, "key")
	want("Get of nothing", err, lease.ErrNotFound)
	_, err = s.Update(ctx, "key", nil, 1)
	want("Update of nothing", err, lease.ErrConflict)
	first, err := s.Create(ctx, "key", []byte("1"))
	want("Create", err, nil)
	_, err = s.Create(ctx, "key", []byte("2"))
	want("Create of a key that exists", err, lease.ErrExists)
	second, err := s.Update(ctx, "key", []byte("2"), first)
	want("Update", err, nil)
	_, err = s.Update(ctx, "key", []byte("3"), first)
	want("Update of an old revision", err, lease.ErrConflict)
	want("Delete of an old revision", s.Delete(ctx, "key", first), lease.ErrConflict)
	value, revision, err := s.Get(ctx, "key")
	want("Get", err, nil)
	if string(value) != "2" || revision != second {
		t.Errorf("%q, %d; want revision %d", value, revision, second)
	}
	want("Delete", s.Delete(ctx, "key", second), nil)
	_, _, err = s.Get(ctx, "key")
	want("Get of a deleted key", err, lease.ErrNotFound)
	_, err = s.Update(ctx, "key", nil, second)
	want("Update of a deleted key", err, lease.ErrConflict)
	_, err = s.Create(ctx, "key", []byte("4"))
	want("Create of a deleted key", err, nil)
}
