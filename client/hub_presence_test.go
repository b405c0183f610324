package client_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
)

func TestWatch(t *testing.T) {
	_, addr := newHub(t)
	d := newFlakyDialer(addr)
	c := d.newClient(t)
	connected := map[uint64]bool{}
	seen := make(chan []uint64)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for p, err := range c.Watch(ctx) {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			for _, id := range p.Joined {
				if connected[id] {
					t.Errorf("%d joined twice", id)
				}
				connected[id] = true
			}
			for _, id := range p.Left {
				if !connected[id] {
					t.Errorf("%d left, and had not joined", id)
				}
				delete(connected, id)
			}
			select {
			case seen <- slices.Sorted(maps.Keys(connected)):
			case <-ctx.Done():
			}
		}
	})
	want := []uint64{c.ID()}
	wantSeen := func() {
		t.Helper()
		for deadline := time.After(testTimeout); ; {
			select {
			case now := <-seen:
				if slices.Equal(now, want) {
					return
				}
			case <-deadline:
				t.Fatalf("timeout: %v", want)
			}
		}
	}
	wantSeen()
	others := dial(t, addr, 3)
	for _, o := range others {
		want = append(want, o.ID())
	}
	wantSeen()
	d.cut(true)
	d.wantEvent(t, client.EventDisconnected)
	others[1].Close()
	want = slices.Delete(want, 2, 3)
	wantSeen()
	second, stop := context.WithCancel(t.Context())
	defer stop()
	for p, err := range c.Watch(second) { // the first Presence has all connected clients
		if err != nil || !slices.Equal(p.Joined, want) || p.Left != nil {
			t.Errorf("a second watch begins with %v, %v, want %v", p, err, want)
		}
		break
	}
}

// TestWatch_Forbidden: the Watch ends with an error and does not block.
func TestWatch_Forbidden(t *testing.T) {
	_, addr := newHubWith(t, hub.Config{Authenticate: func(hub.AuthRequest) (*hub.Permissions, error) { return &hub.Permissions{NoWatch: true}, nil }})
	for _, err := range dial(t, addr, 1)[0].Watch(t.Context()) {
		if !errors.Is(err, client.ErrWatchForbidden) {
			t.Errorf("Watch: %v, want %v", err, client.ErrWatchForbidden)
		}
	}
}

// TestWatch_TooManyWatchers watches while another client has the only place, which becomes free
// later.
func TestWatch_TooManyWatchers(t *testing.T) {
	_, addr := newHubWith(t, hub.Config{MaxWatchers: 1})
	both := dial(t, addr, 2)
	watch := func(c *client.Client) error {
		for _, err := range c.Watch(t.Context()) {
			return err
		}
		return nil
	}
	holding, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, err := range both[0].Watch(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			close(holding)
			<-release
			return
		}
	})
	<-holding
	for range 2 { // the second Watch sends a new WATCH
		if err := watch(both[1]); !errors.Is(err, client.ErrTooManyWatchers) || !strings.Contains(err.Error(), "too many presence watchers, the maximum is 1") {
			t.Errorf("Watch: %v, want %v", err, client.ErrTooManyWatchers)
		}
	}
	close(release)
	wg.Wait()
	waitUntil(t, "there is a place for a watcher", func() bool { return watch(both[1]) == nil })
}
