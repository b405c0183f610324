package natscluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sechlol/go-message-hub/internal/cluster/lease"
)

// buckets are the key-value stores of a cluster.
type buckets struct {
	nodes  jetstream.KeyValue // the counter, the shared key and the fingerprint; kept for ever
	leases jetstream.KeyValue // expire after lease.Duration
}

// openBuckets opens the buckets of the cluster, and creates those that do not exist.
func (c *Cluster) openBuckets(ctx context.Context, s *session) (b *buckets, err error) {
	b = new(buckets)
	js, err := jetstream.New(s.nc, jetstream.WithDefaultTimeout(requestTimeout))
	if err != nil {
		return b, err
	}
	replicas := c.config.Replicas
	if replicas == 0 {
		replicas = 1
		if s.nc.ConnectedClusterName() != "" {
			replicas = 3
		}
	}
	b.nodes, err = openBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: nodesBucket(c.config.Name), Description: "hubs of go-message-hub: the counter of their numbers, and their key", Replicas: replicas,
	})
	if err == nil {
		b.leases, err = openBucket(ctx, js, jetstream.KeyValueConfig{
			Bucket: leasesBucket(c.config.Name), Description: "hubs of go-message-hub that live", Replicas: replicas, TTL: lease.Duration,
		})
	}
	if errors.Is(err, nats.ErrNoResponders) { // JetStream always describes the account if it is enabled
		if _, infoErr := js.AccountInfo(ctx); infoErr != nil {
			err = infoErr
		}
	}
	return b, err
}

// openBucket opens a bucket. It accepts one that exists with other settings.
func openBucket(ctx context.Context, js jetstream.JetStream, config jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	kv, err := js.KeyValue(ctx, config.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, config)
		if errors.Is(err, jetstream.ErrBucketExists) { // another hub was faster
			kv, err = js.KeyValue(ctx, config.Bucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", config.Bucket, err)
	}
	return kv, nil
}

// kvStore is a lease.Store over a bucket of the current session. Each call has requestTimeout.
type kvStore struct {
	c    *Cluster
	pick func(*buckets) jetstream.KeyValue
}

// bucket returns the bucket of the current session, which it opens if necessary.
func (s kvStore) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	b, err := s.c.currentBuckets(ctx)
	if err != nil {
		return nil, err
	}
	return s.pick(b), nil
}

// currentBuckets returns the buckets of the current session, which it opens if necessary.
func (c *Cluster) currentBuckets(ctx context.Context) (*buckets, error) {
	s := c.session.Load()
	if s == nil {
		return nil, ErrNotConnected
	}
	if b := s.buckets.Load(); b != nil {
		return b, nil
	}
	if err := c.prepareBuckets(ctx, s); err != nil {
		return nil, err
	}
	return s.buckets.Load(), nil
}

// Get implements lease.Store.
func (s kvStore) Get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	kv, err := s.bucket(ctx)
	if err != nil {
		return nil, 0, err
	}
	entry, err := kv.Get(ctx, key)
	if err != nil {
		return nil, 0, storeError(err)
	}
	return entry.Value(), entry.Revision(), nil
}

// Create implements lease.Store.
func (s kvStore) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	return s.write(ctx, func(ctx context.Context, kv jetstream.KeyValue) (uint64, error) {
		revision, err := kv.Create(ctx, key, value)
		if err = storeError(err); errors.Is(err, lease.ErrConflict) {
			err = fmt.Errorf("%w: %w", lease.ErrExists, err) // of a key that was deleted
		}
		return revision, err
	})
}

// Update implements lease.Store.
func (s kvStore) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return s.write(ctx, func(ctx context.Context, kv jetstream.KeyValue) (uint64, error) {
		revision, err := kv.Update(ctx, key, value, revision)
		return revision, storeError(err)
	})
}

// write calls a function that writes, and records when the write was.
func (s kvStore) write(ctx context.Context, f func(context.Context, jetstream.KeyValue) (uint64, error)) (revision uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	kv, err := s.bucket(ctx)
	if err != nil {
		return 0, err
	}
	before := s.c.config.now()
	revision, err = f(ctx, kv)
	if err == nil {
		s.c.clock.record(written{kv.Bucket(), revision, before, s.c.config.now()})
	}
	return revision, err
}

// Delete implements lease.Store.
func (s kvStore) Delete(ctx context.Context, key string, revision uint64) error {
	kv, err := s.bucket(ctx)
	if err != nil {
		return err
	}
	return storeError(kv.Delete(ctx, key, jetstream.LastRevision(revision)))
}

// storeError adds the error of package lease that err stands for.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return fmt.Errorf("%w: %w", lease.ErrNotFound, err)
	case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		return fmt.Errorf("%w: %w", lease.ErrConflict, err)
	case errors.Is(err, jetstream.ErrKeyExists):
		return fmt.Errorf("%w: %w", lease.ErrExists, err)
	}
	if code := apiErrorCode(err); code == jetstream.JSErrCodeStreamWrongLastSequence || code == jetstream.JSErrCodeStreamWrongLastSequenceConstant {
		return fmt.Errorf("%w: %w", lease.ErrConflict, err)
	}
	return err
}

// apiErrorCode returns the code of an error of JetStream, or 0.
func apiErrorCode(err error) jetstream.ErrorCode {
	if e, ok := errors.AsType[jetstream.JetStreamError](err); ok && e.APIError() != nil {
		return e.APIError().ErrorCode
	}
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		return e.ErrorCode
	}
	return 0
}
