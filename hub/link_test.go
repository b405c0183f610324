package hub_test

import (
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestSession_IsAwaitedOnceWelcomeIsConfirmed loses connections of clients that have, or have not, said
// that WELCOME has come.
func TestSession_IsAwaitedOnceWelcomeIsConfirmed(t *testing.T) {
	ends := map[string]func(g *guest){
		"by a reset": func(g *guest) { g.reset() },
		"by its end": func(g *guest) { g.Close() },
		"by half a frame": func(g *guest) {
			g.send([]byte{0, 0, 0, 9, byte(wire.TypeTaken), 0})
			g.Close()
		},
	}
	tests := map[string]struct {
		confirms, taken, awaited bool
	}{
		"confirmed":                   {confirms: true, taken: true, awaited: true},
		"not confirmed":               {confirms: true},
		"never to be confirmed":       {awaited: true},
		"confirmed without a promise": {taken: true, awaited: true},
	}
	for name, tt := range tests {
		for how, end := range ends {
			t.Run(name+", lost "+how, func(t *testing.T) {
				h := start(t, hub.Config{ResumeWindow: time.Hour})
				g := h.hello(t, wire.Hello{Version: wire.Version2, Confirms: tt.confirms})
				if tt.taken {
					g.send(wire.AppendTaken(nil, 0))
				}
				g.catchUp() // of which PONG says nothing about WELCOME
				end(g)
				eventually(t, "over or detached", func() bool {
					all := h.Clients(0, 10)
					return len(all) == 0 || all[0].Detached
				})
				if all := h.Clients(0, 10); (len(all) == 1) != tt.awaited {
					t.Errorf("listed are %+v, is it to be awaited: %t", all, tt.awaited)
				}
				if again := h.back(t, g); again.Resumed != tt.awaited {
					t.Errorf("resumed: %t, want %t", again.Resumed, tt.awaited)
				}
			})
		}
	}
}

// TestSession_SecretConfirmsWelcome has a client come back whose TAKEN got lost, while its old
// connection still seems to live.
func TestSession_SecretConfirmsWelcome(t *testing.T) {
	h := start(t, hub.Config{})
	g := h.hello(t, wire.Hello{Version: wire.Version2, Confirms: true})
	if again := h.back(t, g); !again.Resumed || again.ID != g.ID {
		t.Errorf("came back as %+v, was %d", again.Welcome, g.ID)
	}
}
