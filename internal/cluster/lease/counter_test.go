package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/internal/cluster"
)

func TestTakeNumber_CountsFromOne(t *testing.T) {
	var s fakeStore
	for want := cluster.Node(1); want <= 3; want++ {
		if got, err := takeNumber(t.Context(), &s); got != want || err != nil {
			t.Errorf("%d, %v; want %d", got, err, want)
		}
	}
}

func TestTakeNumber_UsedUp(t *testing.T) {
	var s fakeStore
	if _, err := s.Create(t.Context(), counterKey, formatNode(cluster.MaxNode-1)); err != nil {
		t.Fatal(err)
	}
	if got, err := takeNumber(t.Context(), &s); got != cluster.MaxNode || err != nil {
		t.Errorf("the last number: %d, %v", got, err)
	}
	for range 2 {
		if got, err := takeNumber(t.Context(), &s); !errors.Is(err, ErrUsedUp) {
			t.Errorf("%d, %v; want %v", got, err, ErrUsedUp)
		}
	}
}

func TestTakeNumber_CounterIsNoNumber(t *testing.T) {
	for _, text := range []string{"", "x", "-1", "1.5", "99999999999"} {
		var s fakeStore
		if _, err := s.Create(t.Context(), counterKey, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := takeNumber(t.Context(), &s); !errors.Is(err, ErrCounter) {
			t.Errorf("%q: %d, %v; want %v", text, got, err, ErrCounter)
		}
	}
}

func TestTakeNumber_EndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(fakeStore)
		s.before = func(method string) fault {
			if method != "Get" {
				s.mu.Lock()
				s.put(counterKey, formatNode(1)) // another hub is always faster
				s.mu.Unlock()
			}
			return noFault
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if got, err := takeNumber(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d, %v", got, err)
		}
	})
}

func TestTakeNumber_Concurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takers = 100
		s := fakeStore{before: func(string) fault { time.Sleep(rand.N(10 * time.Millisecond)); return noFault }}
		var mu sync.Mutex
		seen := make(map[cluster.Node]bool)
		var wg sync.WaitGroup
		for range takers {
			wg.Go(func() {
				n, err := takeNumber(t.Context(), &s)
				mu.Lock()
				defer mu.Unlock()
				if err != nil || seen[n] {
					t.Errorf("%d, %v; seen: %t", n, err, seen[n])
				}
				seen[n] = true
			})
		}
		wg.Wait()
		if len(seen) != takers || !seen[takers] {
			t.Errorf("%d takers got %d numbers", takers, len(seen))
		}
	})
}

// TestTake_NumbersAreUnique takes numbers while other hubs take numbers between any two calls of
// the store, and while calls and answers are lost: no two hubs have the same number.
func TestTake_NumbersAreUnique(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // pauses take no time
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) { // a bubble has no Deadline
			m := &takeModel{rt: rt, owners: make(map[cluster.Node]int)}
			m.counter.before, m.leases.before = m.interfere, m.interfere
			for range rapid.IntRange(1, 4).Draw(rt, "takers") {
				m.take()
			}
		})
	})
}

// takeModel is the state of TestTake_NumbersAreUnique.
type takeModel struct {
	rt              *rapid.T
	counter, leases fakeStore
	owners          map[cluster.Node]int
	takers, depth   int
}

const maxDepth = 4

// interfere sometimes lets another hub take a number, and chooses a fault.
func (m *takeModel) interfere(string) fault {
	if m.depth < maxDepth && rapid.IntRange(0, 3).Draw(m.rt, "interferes") == 0 {
		m.take()
	}
	return rapid.SampledFrom([]fault{noFault, noFault, noFault, lostCall, lostAnswer}).Draw(m.rt, "fault")
}

// take takes a number, with as many attempts as it needs.
func (m *takeModel) take() {
	m.depth++
	defer func() { m.depth-- }()
	m.takers++
	taker := m.takers
	l := New(Config{Counter: &m.counter, Leases: &m.leases, Info: Info{Name: fmt.Sprint(taker)}})
	defer l.stopExpiry()
	for l.Take(m.rt.Context()) != nil {
	}
	if other, ok := m.owners[l.Node()]; ok || !l.Valid() {
		m.rt.Fatalf("taker %d has number %d, of taker %d (%t); valid: %t", taker, l.Node(), other, ok, l.Valid())
	}
	m.owners[l.Node()] = taker
	if rapid.Bool().Draw(m.rt, "ends") { // its lease does not keep others from using the number
		m.leases.entries = nil
	}
}
