package lease

import (
	"context"
	"errors"
)

// The errors of a Store by which a Lease decides. A Store wraps them.
var (
	ErrNotFound = errors.New("the key does not exist")
	ErrExists   = errors.New("the key exists")
	ErrConflict = errors.New("the key has another revision")
)

// Store is a space of keys with compare-and-set. A method that returns any other error than
// those above can have had its effect all the same. All methods can be called concurrently,
// return when ctx ends, and do not keep value.
type Store interface {
	// Get returns the value of a key and its revision, which is never 0. The value can be
	// outdated. The error is ErrNotFound if the key does not exist.
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)

	// Create sets a key that does not exist. The error is ErrExists if it does.
	Create(ctx context.Context, key string, value []byte) (revision uint64, err error)

	// Update sets a key that has this revision. The error is ErrConflict if it has another one, or
	// does not exist.
	Update(ctx context.Context, key string, value []byte, revision uint64) (newRevision uint64, err error)

	// Delete removes a key that has this revision. The error is ErrConflict if it has another one.
	Delete(ctx context.Context, key string, revision uint64) error
}
