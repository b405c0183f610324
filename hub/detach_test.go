package hub_test

import (
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestSession_ResumeWindow_BeforeWelcomeIsConfirmed closes connections of clients that have
// and have not confirmed WELCOME, and checks how long their sessions can be resumed.
func TestSession_ResumeWindow_BeforeWelcomeIsConfirmed(t *testing.T) {
	ends := map[string]func(c *clientV2){
		"by its end": func(c *clientV2) { c.Close() },
		"by half a frame": func(c *clientV2) {
			c.send([]byte{0, 0, 0, 9, byte(wire.TypeAck), 0})
			c.Close()
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
		for cause, end := range ends {
			t.Run(name+", lost "+cause, func(t *testing.T) {
				inVirtualTimeWith(t, hub.Config{ResumeWindow: tt.config}, func(t *testing.T, h *testHub) {
					connectAndLose := func() *clientV2 {
						c := h.connectHello(t, wire.Hello{Version: wire.Version2, Confirms: tt.confirms})
						if tt.taken {
							c.send(wire.AppendAck(nil, 0))
						}
						c.awaitPong() // PONG does not confirm WELCOME
						end(c)
						return c
					}
					tooLate, inTime := connectAndLose(), connectAndLose()
					<-time.After(tt.window - time.Millisecond)
					hello := wire.Hello{Version: wire.Version2, ID: inTime.ID, Resume: inTime.Resume}
					if again := h.connectHello(t, hello); !again.Resumed {
						t.Error("not resumed before the end of the window")
					}
					<-time.After(2 * time.Millisecond)
					if _, listed := h.Client(tooLate.ID); listed {
						t.Error("still listed after the end of the window")
					}
				})
			})
		}
	}
}

// TestSession_ResumeSecret_ConfirmsWelcome resumes a session whose ACK got lost, while its
// old connection is still open.
func TestSession_ResumeSecret_ConfirmsWelcome(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		c := h.connectHello(t, wire.Hello{Version: wire.Version2, Confirms: true})
		if again := h.resume(t, c); !again.Resumed || again.ID != c.ID {
			t.Errorf("resumed as %+v, want id %d", again.Welcome, c.ID)
		}
	})
}

// TestSession_Resume_WhenConfirmationIsLost resets a connection together with the ACK of
// WELCOME, and resumes the session.
func TestSession_Resume_WhenConfirmationIsLost(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		c := h.connectHello(t, wire.Hello{Version: wire.Version2, Confirms: true})
		c.reset()
		eventually(t, "detached", func() bool { info, _ := h.Client(c.ID); return info.Detached })
		if again := h.resume(t, c); !again.Resumed || again.ID != c.ID {
			t.Errorf("resumed as %+v, want id %d", again.Welcome, c.ID)
		}
		bystanders.waitRounds(3)
	})
}

func TestSession_ResumeAfterWindow_GetsNewID(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{ResumeWindow: 50 * time.Millisecond})
		sender, first := h.connectV2(t), h.connectV2(t)
		first.withholdsAcks = true
		heard := sender.sendMessage([]byte("heard"), levelOptions(wire.LevelReceived), 0, first.id)
		first.expectDeliver(sender.id, heard, []byte("heard"))
		first.reset()
		sender.expectReport(heard, wire.FateUncertain)
		h.waitDisconnected(t, hub.CloseLost, 1)
		lost := sender.sendMessage([]byte("lost"), levelOptions(wire.LevelReceived), 0, first.id)
		sender.expectReport(lost, wire.FateUnknown)
		if second := h.resume(t, first); second.Resumed || second.ID == first.ID {
			t.Errorf("resumed as %+v, want another id than %d", second.Welcome, first.ID)
		}
	})
}
