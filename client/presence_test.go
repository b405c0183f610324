package client

import (
	"iter"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/sechlol/go-message-hub/wire"
)

// TestWatch_NewHubReplacesAll has a loop that reads every Presence, and one that lags behind.
// Both see that all clients have left, and then the clients of the new hub, some with the same
// ids.
func TestWatch_NewHubReplacesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		quick, stop := iter.Pull2(tc.client.Watch(t.Context()))
		defer stop()
		slow, stop := iter.Pull2(tc.client.Watch(t.Context()))
		defer stop()
		want := func(next func() (Presence, error, bool), joined, left []uint64) {
			t.Helper()
			p, err, _ := next()
			if err != nil || !reflect.DeepEqual(p, Presence{Joined: joined, Left: left}) {
				t.Errorf("%+v, %v, want %v joined and %v left", p, err, joined, left)
			}
		}
		first := runAsync(func() error { want(quick, []uint64{1, 2, 7}, nil); return nil })
		if _, err := h.wantType(wire.TypeWatch); err != nil {
			t.Fatal(err)
		}
		h.send(wire.AppendPresence(nil, 10, wire.PresenceSnapshot, []uint64{1, 2, 7}, nil))
		<-first
		want(slow, []uint64{1, 2, 7}, nil)
		h.send(wire.AppendPresence(nil, 11, 0, []uint64{3}, []uint64{1}))
		want(quick, []uint64{3}, []uint64{1})
		h.Close()
		tc.wantEvent(EventDisconnected)

		// The second time, slow has not seen the first new hub.
		for epoch := uint64(2); epoch < 4; epoch++ {
			h = <-tc.hubs
			other := testWelcome
			other.Epoch = epoch
			h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, other)
			payload, err := h.wantType(wire.TypeWatch)
			if w, _ := wire.ParseWatch(payload); err != nil || !w.On || w.Since != 0 {
				t.Errorf("WATCH %+v, %v, want one with revision 0", w, err)
			}
			tc.wantEvent(EventNewID)
			want(quick, nil, map[uint64][]uint64{2: {2, 3, 7}, 3: {2, 7}}[epoch])
			h.send(wire.AppendPresence(nil, 10, wire.PresenceSnapshot, []uint64{2, 7}, nil))
			want(quick, []uint64{2, 7}, nil)
			if epoch < 3 {
				h.Close()
				tc.wantEvent(EventDisconnected)
			}
		}
		want(slow, nil, []uint64{1, 2, 7})
		want(slow, []uint64{2, 7}, nil)
	})
}
