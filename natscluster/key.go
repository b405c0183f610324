package natscluster

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sechlol/go-message-hub/internal/cluster/lease"
)

// The keys of the secret of the cluster in the bucket of nodes.
const (
	sharedKey      = "key"         // 32 random bytes, if hubs are configured without a key
	fingerprintKey = "fingerprint" // of the secret: see fingerprint
)

// fingerprint returns a text that says which key the hubs use, and not the key.
func fingerprint(key []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("go-message-hub cluster"))
	return hex.AppendEncode(nil, mac.Sum(nil))
}

// agreeOnKey returns the key of the cluster. own is the key that this hub is configured with, or
// had before its buckets were lost; empty: none. shared says whether the key is stored in the
// bucket. The error is ErrOtherKey if other hubs use another key.
func agreeOnKey(ctx context.Context, name string, kv jetstream.KeyValue, own []byte, shared bool) ([]byte, error) {
	key := own
	if len(own) == 0 {
		key = make([]byte, sha256.Size)
		rand.Read(key)
	}
	if shared {
		stored, err := getOrCreate(ctx, kv, sharedKey, key)
		if err != nil {
			return nil, fmt.Errorf("share the key of the cluster: %w", err)
		}
		if len(own) > 0 && !bytes.Equal(stored, own) {
			return nil, otherKeyError(name)
		}
		key = stored
	}
	stored, err := getOrCreate(ctx, kv, fingerprintKey, fingerprint(key))
	if err != nil {
		return nil, fmt.Errorf("check the key of the cluster: %w", err)
	}
	if !hmac.Equal(stored, fingerprint(key)) {
		return nil, otherKeyError(name)
	}
	return key, nil
}

func otherKeyError(name string) error {
	return fmt.Errorf("cluster %s is used with %w", name, ErrOtherKey)
}

// getOrCreate returns the value of a key, which it sets to value if it does not exist.
func getOrCreate(ctx context.Context, kv jetstream.KeyValue, key string, value []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for {
		entry, err := kv.Get(ctx, key)
		if err == nil {
			return entry.Value(), nil
		}
		if !errors.Is(storeError(err), lease.ErrNotFound) {
			return nil, err
		}
		_, err = kv.Create(ctx, key, value)
		switch err = storeError(err); {
		case err == nil:
			return value, nil
		case errors.Is(err, lease.ErrExists), errors.Is(err, lease.ErrConflict): // another hub was faster
		default:
			return nil, err
		}
	}
}
