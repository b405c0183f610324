package hub_test

import (
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// maxExactInt is the largest integer up to which a float64 represents every integer. JSON
// readers parse numbers as float64.
const maxExactInt = 1 << 53

// TestIDs_UniqueAcrossRestarts starts a hub three times, one millisecond after the previous
// one ended. No id is repeated, neither for clients of version 2 nor, if the hub
// authenticates, for clients of version 1. Each WELCOME says whether the hub grants ids.
func TestIDs_UniqueAcrossRestarts(t *testing.T) {
	allowAll := func(hub.AuthRequest) (*hub.Permissions, error) { return new(hub.Permissions), nil }
	for name, test := range map[string]struct {
		config   hub.Config
		min, max uint64
	}{
		"open":          {hub.Config{}, 1 << 32, maxExactInt},
		"no v1":         {hub.Config{DisableV1: true}, 1 << 32, maxExactInt},
		"authenticated": {hub.Config{Authenticate: allowAll}, hub.MaxGrantedID + 1, 1<<64 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			onMemoryTransports(t, func(t *testing.T, start startFunc) {
				var ids []uint64
				var epochs []uint64
				for range 3 {
					h := start(t, test.config)
					for range 20 {
						c := h.connectHello(t, wire.Hello{Version: wire.Version2})
						ids, epochs = append(ids, c.ID), append(epochs, c.Epoch)
						if c.GrantsIDs != (test.config.Authenticate != nil) {
							t.Errorf("WELCOME says that the hub grants ids: %t", c.GrantsIDs)
						}
						if test.config.Authenticate != nil {
							ids = append(ids, h.connect(t).requestID().id)
						}
					}
					_, _ = h.shutdownTimed(t, testTimeout)
					<-time.After(time.Millisecond)
				}
				if sorted := slices.Sorted(slices.Values(ids)); !slices.Equal(ids, sorted) || len(slices.Compact(sorted)) != len(ids) {
					t.Errorf("the ids are %v, want each once, ascending", ids)
				}
				if ids[0] < test.min || ids[len(ids)-1] > test.max {
					t.Errorf("the ids are from %d to %d, want them from %d to %d", ids[0], ids[len(ids)-1], test.min, test.max)
				}
				if n := len(slices.Compact(epochs)); n != 3 {
					t.Errorf("%d epochs, want 3", n)
				}
			})
		})
	}
}

// TestIDs_Version1StartsAtOne checks that ids of version 1 start at 1 after each start of a
// hub, and that connected version 2 clients do not change that.
func TestIDs_Version1StartsAtOne(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		for range 2 {
			h := tr.start(t, hub.Config{})
			if c := h.connectV1(t); c.id != 1 {
				t.Errorf("the first client is %d, want 1", c.id)
			}
			v2 := h.connectV2(t)
			if c := h.connectV1(t); c.id <= 1 || c.id > 3 {
				t.Errorf("the third client is %d", c.id)
			}
			if ids := v2.requestPage(0, 0); len(ids) != 3 || ids[2] != v2.ID {
				t.Errorf("listed: %v", ids)
			}
		}
	})
}

// TestIDs_LateHello_GetsNewID registers a silent connection as version 1 first. Its later
// HELLO gets a new id, and the version 1 id is unknown from then on.
func TestIDs_LateHello_GetsNewID(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		if h.web != nil {
			return // a WebSocket is never registered as version 1
		}
		pc := startPresenceChecker(t, h)
		silent := h.connect(t)
		<-time.After(registerDelay + registerSlack)
		pc.expectPresence([]uint64{2}, nil)
		v2 := handshakeV2(silent, wire.Hello{Version: wire.Version2})
		if v2.ID <= pc.ID {
			t.Errorf("its id is %d", v2.ID)
		}
		pc.expectPresence([]uint64{v2.ID}, []uint64{2})
		pc.expectReport(pc.sendMessage([]byte("x"), levelOptions(wire.LevelWritten), 0, 2), wire.FateUnknown)
		if n := h.Stats().Clients; n != 2 {
			t.Errorf("%d clients, want 2", n)
		}
	})
}

func TestIDs_FirstClients_CountFromOne(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		for want := uint64(1); want <= 5; want++ {
			if c := h.connectV1(t); c.id != want {
				t.Errorf("client %d has id %d", want, c.id)
			}
		}
	})
}

// TestIDs_AreNeverReused connects and disconnects 100 clients. No id is used twice, and a
// message to the id of a client that has left reaches no client.
func TestIDs_AreNeverReused(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		seen := map[uint64]bool{bystanders.sender.ID(): true, bystanders.echoer.ID(): true}
		var last uint64
		for i := range 100 {
			c := h.connectV1(t)
			if seen[c.id] {
				t.Fatalf("id %d was used again", c.id)
			}
			seen[c.id] = true
			if last != 0 {
				c.relay([]byte("to one who left"), last)
				c.fence()
			}
			last = c.id
			c.Close()
			h.waitDisconnected(t, hub.CloseLeft, uint64(i+1))
		}
		bystanders.waitRounds(3)
	})
}
