package hub_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// maxFloat is the largest whole number up to which a float64 holds all, as numbers of JSON are read.
const maxFloat = 1 << 53

// TestIDs_NoStartRepeatsThoseOfAnother for clients of version 2, and for all clients of a hub that asks
// who they are, one millisecond after the other start. Each says whether it grants ids.
func TestIDs_NoStartRepeatsThoseOfAnother(t *testing.T) {
	anybody := func(hub.Applicant) (*hub.Grant, error) { return new(hub.Grant), nil }
	for name, test := range map[string]struct {
		config   hub.Config
		min, max uint64
	}{
		"open":       {hub.Config{}, 1 << 32, maxFloat},
		"no classic": {hub.Config{NoClassic: true}, 1 << 32, maxFloat},
		"guarded":    {hub.Config{Admit: anybody}, hub.GrantedMost + 1, 1<<64 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var all []uint64
				var epochs []uint64
				for range 3 {
					ln := newPipes()
					h := startOn(t, test.config, ln)
					for range 20 {
						g := greet(virtual(t, ln), wire.Hello{Version: wire.Version2})
						all, epochs = append(all, g.ID), append(epochs, g.Epoch)
						if g.GrantsIDs != (test.config.Admit != nil) {
							t.Errorf("it says that it grants ids: %t", g.GrantsIDs)
						}
						if test.config.Admit != nil {
							all = append(all, virtual(t, ln).named().id)
						}
					}
					_, _ = h.shutdown(t, patience)
					<-time.After(time.Millisecond)
				}
				if sorted := slices.Sorted(slices.Values(all)); !slices.Equal(all, sorted) || len(slices.Compact(sorted)) != len(all) {
					t.Errorf("the ids are %v, want each once, ascending", all)
				}
				if all[0] < test.min || all[len(all)-1] > test.max {
					t.Errorf("the ids are from %d to %d, want them from %d to %d", all[0], all[len(all)-1], test.min, test.max)
				}
				if n := len(slices.Compact(epochs)); n != 3 {
					t.Errorf("%d epochs, want 3", n)
				}
			})
		})
	}
}

// TestIDs_Version1BeginsAt1 with each start, whoever of version 2 is there.
func TestIDs_Version1BeginsAt1(t *testing.T) {
	for range 2 {
		h := start(t, hub.Config{})
		if p := h.peer(t); p.id != 1 {
			t.Errorf("the first client is %d, want 1", p.id)
		}
		g := h.guest(t)
		if p := h.peer(t); p.id <= 1 || p.id > 3 {
			t.Errorf("the third client is %d", p.id)
		}
		if ids := g.page(0, 0); len(ids) != 3 || ids[2] != g.ID {
			t.Errorf("listed: %v", ids)
		}
	}
}

// TestIDs_LateHelloGetsAnother than the one by which the client was listed in version 1.
func TestIDs_LateHelloGetsAnother(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		o := observe(t, h, ln)
		late := virtual(t, ln)
		<-time.After(registerAfter + registerSlack)
		o.sees([]uint64{2}, nil)
		g := greet(late, wire.Hello{Version: wire.Version2})
		if g.ID <= o.ID {
			t.Errorf("its id is %d", g.ID)
		}
		o.sees([]uint64{g.ID}, []uint64{2})
		o.reported(o.tell([]byte("x"), only(wire.LevelWritten), 0, 2), wire.FateUnknown)
		if n := h.Stats().Clients; n != 2 {
			t.Errorf("%d clients, want 2", n)
		}
	})
}
