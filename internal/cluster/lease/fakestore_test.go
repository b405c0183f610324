package lease

import (
	"context"
	"errors"
	"sync"
	"time"
)

var errDown = errors.New("the store is down")

// fault is what happens to one call of a fakeStore.
type fault int

const (
	noFault    fault = iota
	lostCall         // the call fails and has no effect
	lostAnswer       // the call fails and has its effect
	hang             // the call has no effect, and fails when its context ends
	hangAnswer       // the call has its effect, and fails when its context ends
)

// fakeStore is a Store in memory. Its keys expire after ttl; 0: never.
type fakeStore struct {
	ttl time.Duration

	// Guarded by mu.
	mu       sync.Mutex
	before   func(method string) fault // called before each call, without mu; nil: no fault
	revision uint64
	entries  map[string]fakeEntry
}

type fakeEntry struct {
	value    string
	revision uint64
	written  time.Time
}

// call runs f, which is one atomic operation, with the fault that s.before chooses.
func (s *fakeStore) call(ctx context.Context, method string, f func() error) error {
	kind := noFault
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		kind = before(method)
	}
	if kind == lostCall {
		return errDown
	}
	if kind == hang {
		<-ctx.Done()
		return ctx.Err()
	}
	s.mu.Lock()
	if s.entries == nil {
		s.entries = make(map[string]fakeEntry)
	}
	for key, e := range s.entries {
		if s.ttl != 0 && time.Since(e.written) >= s.ttl {
			delete(s.entries, key)
		}
	}
	err := f()
	s.mu.Unlock()
	switch kind {
	case lostAnswer:
		return errDown
	case hangAnswer:
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// setBefore has before called before each call from now on.
func (s *fakeStore) setBefore(before func(method string) fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *fakeStore) put(key string, value []byte) uint64 {
	s.revision++
	s.entries[key] = fakeEntry{string(value), s.revision, time.Now()}
	return s.revision
}

func (s *fakeStore) Get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	err = s.call(ctx, "Get", func() error {
		e, ok := s.entries[key]
		if !ok {
			return ErrNotFound
		}
		value, revision = []byte(e.value), e.revision
		return nil
	})
	return value, revision, err
}

func (s *fakeStore) Create(ctx context.Context, key string, value []byte) (revision uint64, err error) {
	err = s.call(ctx, "Create", func() error {
		if _, ok := s.entries[key]; ok {
			return ErrExists
		}
		revision = s.put(key, value)
		return nil
	})
	return revision, err
}

func (s *fakeStore) Update(ctx context.Context, key string, value []byte, revision uint64) (newRevision uint64, err error) {
	err = s.call(ctx, "Update", func() error {
		if s.entries[key].revision != revision {
			return ErrConflict
		}
		newRevision = s.put(key, value)
		return nil
	})
	return newRevision, err
}

func (s *fakeStore) Delete(ctx context.Context, key string, revision uint64) error {
	return s.call(ctx, "Delete", func() error {
		if s.entries[key].revision != revision {
			return ErrConflict
		}
		delete(s.entries, key)
		return nil
	})
}

// has reports whether a key exists and has not expired.
func (s *fakeStore) has(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	return ok && (s.ttl == 0 || time.Since(e.written) < s.ttl)
}
