package lease

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/cluster"
)

// fixture is a lease that Run renews, over stores in memory, in virtual time.
type fixture struct {
	*Lease
	t               *testing.T
	counter, leases *fakeStore
	renewals        chan error // what OnRenew was called with
	ended           chan error // what Run has returned
	cancel          context.CancelFunc
}

// runLease takes a lease and runs it until the test ends.
func runLease(t *testing.T) *fixture {
	f := &fixture{t: t, counter: new(fakeStore), leases: &fakeStore{ttl: Duration}, renewals: make(chan error, 1000), ended: make(chan error, 1)}
	f.Lease = New(Config{
		Counter: f.counter, Leases: f.leases, Info: Info{Name: "hub-1", Started: time.Now()},
		OnRenew: func(err error) { f.renewals <- err },
	})
	if err := f.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.cancel = cancel
	go func() { f.ended <- f.Run(ctx) }() // ends with cancel, which each test calls by stop
	return f
}

// stop ends Run.
func (f *fixture) stop() {
	f.t.Helper()
	f.cancel()
	if err := <-f.ended; err != nil {
		f.t.Errorf("Run: %v", err)
	}
}

// faults sets the fault of all calls of the store of leases from now on.
func (f *fixture) faults(kind fault) {
	synctest.Wait()
	f.leases.setBefore(func(string) fault { return kind })
}

// checkValid checks Valid, and that a lease that the hub holds for good is good in the store.
func (f *fixture) checkValid(want bool) {
	f.t.Helper()
	synctest.Wait()
	if got := f.Valid(); got != want {
		f.t.Errorf("valid: %t, want %t", got, want)
	}
	if want && !f.leases.has(Key(f.Node())) {
		f.t.Error("the lease is valid for the hub, and not in the store")
	}
}

func TestLease_StaysValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runLease(t)
		defer f.stop()
		changed := f.Changed()
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			f.checkValid(true)
		}
		select {
		case <-changed:
			t.Error("Changed, without a change")
		default:
		}
		if len(f.renewals) != 10 {
			t.Errorf("%d renewals in 10 s", len(f.renewals))
		}
	})
}

func TestLease_Describes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runLease(t)
		defer f.stop()
		var info Info
		value, _, err := f.leases.Get(t.Context(), "lease.1")
		if err != nil || json.Unmarshal(value, &info) != nil || info.Name != "hub-1" || info.Start == "" || !info.Started.Equal(time.Now()) {
			t.Errorf("%s, %v", value, err)
		}
	})
}

// TestLease_OutlastsElection checks that a lease stays good while JetStream has no leader.
func TestLease_OutlastsElection(t *testing.T) {
	const maxElection = 9 * time.Second // of nats-server
	for name, kind := range map[string]fault{"call lost": lostCall, "hangs": hang} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := runLease(t)
				defer f.stop()
				changed := f.Changed()
				f.faults(kind)
				time.Sleep(maxElection)
				f.faults(noFault)
				time.Sleep(renewInterval + renewTimeout)
				f.checkValid(true)
				select {
				case <-changed:
					t.Error("the lease has run out")
				default:
				}
			})
		})
	}
}

// TestLease_RunsOutAndReturns checks that a lease runs out 15 s after the request that last
// succeeded, and is good again with the same number when the store is back.
func TestLease_RunsOutAndReturns(t *testing.T) {
	for name, kind := range map[string]fault{"call lost": lostCall, "answer lost": lostAnswer, "hangs": hang, "answer hangs": hangAnswer} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := runLease(t)
				defer f.stop()
				node := f.Node()
				f.faults(kind)
				time.Sleep(Duration - 1)
				f.checkValid(true)
				changed := f.Changed()
				time.Sleep(time.Nanosecond)
				f.checkValid(false)
				<-changed
				time.Sleep(time.Minute)
				f.checkValid(false)
				changed = f.Changed()
				f.faults(noFault)
				time.Sleep(renewInterval + renewTimeout)
				f.checkValid(true)
				<-changed
				if f.Node() != node {
					t.Errorf("node %d, want %d", f.Node(), node)
				}
			})
		})
	}
}

func TestLease_CountsFromBeforeTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runLease(t)
		defer f.stop()
		synctest.Wait()
		f.leases.setBefore(func(string) fault { time.Sleep(renewTimeout / 2); return noFault })
		start := time.Now()
		<-f.renewals
		if want := start.Add(renewInterval + Duration); !f.Until().Equal(want) {
			t.Errorf("until %v, want %v", f.Until(), want)
		}
	})
}

func TestLease_RenewIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runLease(t)
		defer f.stop()
		start := time.Now()
		f.Renew()
		f.Renew() // does not block
		if err := <-f.renewals; err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestLease_AdoptsLostAnswer checks that one lost answer does not delay the next renewal.
func TestLease_AdoptsLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runLease(t)
		defer f.stop()
		f.faults(lostAnswer)
		if err := <-f.renewals; !errors.Is(err, errDown) {
			t.Error(err)
		}
		f.faults(noFault)
		if err := <-f.renewals; err != nil {
			t.Error(err)
		}
		if want := time.Now().Add(Duration); !f.Until().Equal(want) {
			t.Errorf("until %v, want %v", f.Until(), want)
		}
	})
}

func TestLease_AnotherHubHasTheNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runLease(t)
		synctest.Wait()
		f.leases.mu.Lock()
		f.leases.put(f.key(), []byte("another hub"))
		f.leases.mu.Unlock()
		if err := <-f.renewals; !errors.Is(err, ErrTaken) {
			t.Error(err)
		}
		if err := <-f.ended; !errors.Is(err, ErrTaken) {
			t.Errorf("Run: %v", err)
		}
		f.checkValid(false)
	})
}

// TestTake_SkipsNumberInUse checks that a counter that was set back does not give a number that a
// hub still has.
func TestTake_SkipsNumberInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runLease(t)
		defer f.stop()
		l := New(Config{Counter: new(fakeStore), Leases: f.leases})
		defer l.stopExpiry()
		if err := l.Take(t.Context()); err != nil || l.Node() != 2 {
			t.Errorf("node %d, %v", l.Node(), err)
		}
	})
}

func TestTake_KeepsNumberAfterError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leases := &fakeStore{ttl: Duration}
		l := New(Config{Counter: new(fakeStore), Leases: leases})
		defer l.stopExpiry()
		leases.before = func(string) fault { return lostCall }
		for range 3 {
			if err := l.Take(t.Context()); !errors.Is(err, errDown) {
				t.Error(err)
			}
		}
		leases.before = nil
		if err := l.Take(t.Context()); err != nil || l.Node() != 1 || !l.Valid() {
			t.Errorf("node %d, %v", l.Node(), err)
		}
	})
}

func TestRelease_DeletesLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runLease(t)
		f.stop()
		changed := f.Changed()
		if err := f.Release(t.Context()); err != nil {
			t.Error(err)
		}
		f.checkValid(false)
		<-changed
		if f.leases.has(f.key()) {
			t.Error("the lease is still in the store")
		}
	})
}

func TestKey(t *testing.T) {
	if got := Key(cluster.MaxNode); got != "lease.4194303" {
		t.Error(got)
	}
}
