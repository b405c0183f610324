package hub_test

import (
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestSession_ResumeWindowBeforeWelcomeIsConfirmed loses connections of clients that have, or have
// not, said that WELCOME has come, and looks for how long they may come back.
func TestSession_ResumeWindowBeforeWelcomeIsConfirmed(t *testing.T) {
	ends := map[string]func(g *guest){
		"by its end": func(g *guest) { g.Close() },
		"by half a frame": func(g *guest) {
			g.send([]byte{0, 0, 0, 9, byte(wire.TypeTaken), 0})
			g.Close()
		},
	}
	tests := map[string]struct {
		confirms, taken bool
		config, window  time.Duration
	}{
		"confirmed":                       {confirms: true, taken: true, config: time.Hour, window: time.Hour},
		"not confirmed":                   {confirms: true, config: time.Hour, window: 5 * time.Second},
		"not confirmed in a short window": {confirms: true, config: time.Second, window: time.Second},
		"never to be confirmed":           {config: time.Hour, window: time.Hour},
		"confirmed without a promise":     {taken: true, config: time.Hour, window: time.Hour},
	}
	for name, tt := range tests {
		for how, end := range ends {
			t.Run(name+", lost "+how, func(t *testing.T) {
				inVirtualTimeWith(t, hub.Config{ResumeWindow: tt.config}, func(t *testing.T, h *testHub, ln *pipes) {
					lost := func() *guest {
						g := greet(virtual(t, ln), wire.Hello{Version: wire.Version2, Confirms: tt.confirms})
						if tt.taken {
							g.send(wire.AppendTaken(nil, 0))
						}
						g.catchUp() // of which PONG says nothing about WELCOME
						end(g)
						return g
					}
					tooLate, inTime := lost(), lost()
					time.Sleep(tt.window - time.Millisecond)
					hello := wire.Hello{Version: wire.Version2, ID: inTime.ID, Resume: inTime.Resume}
					if again := greet(virtual(t, ln), hello); !again.Resumed {
						t.Error("not resumed before the end of the window")
					}
					time.Sleep(2 * time.Millisecond)
					if _, listed := h.Client(tooLate.ID); listed {
						t.Error("still listed behind the end of the window")
					}
				})
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

// TestSession_ResumeWhenConfirmationIsLost has the reset of a connection take the TAKEN with it.
func TestSession_ResumeWhenConfirmationIsLost(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	g := h.hello(t, wire.Hello{Version: wire.Version2, Confirms: true})
	g.reset()
	eventually(t, "detached", func() bool { c, _ := h.Client(g.ID); return c.Detached })
	if again := h.back(t, g); !again.Resumed || again.ID != g.ID {
		t.Errorf("came back as %+v, was %d", again.Welcome, g.ID)
	}
	bystanders.pass(3)
}
