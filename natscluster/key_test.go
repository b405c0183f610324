package natscluster

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// withKey returns testConfig with a key.
func withKey(s *server.Server, key string) Config {
	config := testConfig(s)
	config.Key = []byte(key)
	return config
}

func TestKey_IsShared(t *testing.T) {
	s := startNATS(t, nil)
	keys := make(chan []byte, 5)
	var wg sync.WaitGroup
	for range cap(keys) {
		wg.Go(func() { keys <- join(t, testConfig(s)).Key() })
	}
	wg.Wait()
	first := <-keys
	for range cap(keys) - 1 {
		if key := <-keys; len(key) != 32 || !bytes.Equal(key, first) {
			t.Errorf("%x and %x", key, first)
		}
	}
}

func TestKey_Configured(t *testing.T) {
	s := startNATS(t, nil)
	c := join(t, withKey(s, "a key of 18 bytes."))
	join(t, withKey(s, "a key of 18 bytes."))
	if string(c.Key()) != "a key of 18 bytes." {
		t.Errorf("%q", c.Key())
	}
	stored, err := c.session.Load().buckets.Load().nodes.Get(testContext(t), sharedKey)
	if err == nil {
		t.Errorf("a configured key is in NATS: %q", stored.Value())
	}
}

func TestKey_Another(t *testing.T) {
	for name, keys := range map[string][2]string{
		"two keys":              {"a key of 18 bytes.", "another of 18 byte"},
		"the second has no key": {"a key of 18 bytes.", ""},
		"the first has no key":  {"", "a key of 18 bytes."},
	} {
		t.Run(name, func(t *testing.T) {
			s := startNATS(t, nil)
			c := join(t, withKey(s, keys[0]))
			_, err := Join(testContext(t), withKey(s, keys[1]))
			if !errors.Is(err, ErrOtherKey) || err.Error() != "cluster test is used with another key" || !strings.HasPrefix(Advice(err), "give all hubs of the cluster the same") {
				t.Error(err)
			}
			if err := c.Err(); err != nil {
				t.Errorf("the first hub: %v", err)
			}
			// The way out that docs/CLUSTER.md names.
			kv := c.session.Load().buckets.Load().nodes
			if err := kv.Delete(context.Background(), "fingerprint"); err != nil {
				t.Fatal(err)
			}
			join(t, withKey(s, keys[1]))
		})
	}
}
