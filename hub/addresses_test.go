package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestSoManyFromOneAddress lets in no more at once, and more when some have left.
func TestSoManyFromOneAddress(t *testing.T) {
	h := start(t, hub.Config{MaxPerAddress: 2})
	first, second := h.peer(t), h.peer(t)
	h.refused(t)
	if n := h.Stats().Refused[hub.RefusedAddress]; n != 1 {
		t.Errorf("%d refused, want 1", n)
	}
	first.Close()
	eventually(t, "one has left", func() bool { return h.Stats().Clients == 1 })
	eventually(t, "another may come", func() bool {
		p := h.silent(t)
		_, err := p.Write([]byte{0, 0, 0, 1, 1})
		if err != nil {
			return false
		}
		_, _, err = p.next()
		return err == nil
	})
	second.relay([]byte("x"), second.id)
	second.hears([]byte("x"))
}

// TestWhoComesBackFindsAPlace has all from one address lose their connections and go on. No more
// are expected back than may be connected, so that nobody finds all places taken by those who are not there.
func TestWhoComesBackFindsAPlace(t *testing.T) {
	h := start(t, hub.Config{MaxPerAddress: 2, ResumeWindow: time.Hour})
	both := []*guest{h.guest(t), h.guest(t)}
	h.refused(t)
	lost := func(n int) {
		eventually(t, "lost", func() bool {
			detached := 0
			for _, c := range h.Clients(0, 10) {
				if c.Detached {
					detached++
				}
			}
			return detached == n
		})
	}
	for _, g := range both {
		g.reset()
	}
	lost(2)
	for i, g := range both {
		if both[i] = h.back(t, g); !both[i].Resumed {
			t.Errorf("came back as %+v", both[i].Welcome)
		}
	}
	h.refused(t)
	for _, g := range both {
		g.reset()
	}
	lost(2)
	const others = 3 // whose connections are lost in the meantime are not expected back
	for n := range uint64(others) {
		h.insist(t, wire.Hello{Version: wire.Version2}).reset() // those before it may not be closed yet
		h.disconnected(t, hub.ReasonLost, n+1)
	}
	lost(2)
	for _, g := range both {
		if again := h.back(t, g); !again.Resumed {
			t.Errorf("came back as %+v", again.Welcome)
		}
	}
}

// TestAddresses_ResumedSessionGivesItsPlaceBack loses a connection again and again before the hub is done with the one
// before it: the client is expected back all the same.
func TestAddresses_ResumedSessionGivesItsPlaceBack(t *testing.T) {
	over := make(chan struct{})
	h := start(t, hub.Config{MaxPerAddress: 1, ResumeWindow: time.Hour, Logger: slog.New(blockedAtEnd{slog.DiscardHandler, over})})
	defer close(over)
	g := h.guest(t)
	for range 3 {
		g.reset()
		eventually(t, "detached", func() bool { c := h.Clients(0, 10); return len(c) == 1 && c[0].Detached })
		if g = h.back(t, g); !g.Resumed {
			t.Fatalf("came back as %+v", g.Welcome)
		}
	}
}

// blockedAtEnd is a log that does not take the end of a session until over is closed.
type blockedAtEnd struct {
	slog.Handler
	over chan struct{}
}

func (b blockedAtEnd) Enabled(context.Context, slog.Level) bool { return true }

func (b blockedAtEnd) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "client disconnected" {
		<-b.over
	}
	return nil
}

// refused connects, speaks version 1 and sees the end.
func (s *testHub) refused(t testing.TB) {
	t.Helper()
	p := s.silent(t)
	_, _ = p.Write(wire.AppendIdentityRequest(nil)) // the end may come before it
	if n, err := io.Copy(io.Discard, p); n > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, %v, want the end", n, err)
	}
}

// TestWhoIsRefusedIsTold where everybody understands it.
func TestWhoIsRefusedIsTold(t *testing.T) {
	for why, config := range map[hub.Refusal]hub.Config{
		hub.RefusedFull:    {MaxClients: 1},
		hub.RefusedAddress: {MaxPerAddress: 1},
		hub.RefusedRate:    {ConnectRate: 0.001},
	} {
		t.Run(why.String(), func(t *testing.T) {
			t.Parallel() // it takes three seconds until a silent one is refused
			log := &logbook{}
			config.NoClassic, config.Logger = true, log.logger()
			h := start(t, config)
			h.guest(t)
			p := h.silent(t)
			kind, payload := p.frame()
			g, err := wire.ParseGoAway(payload)
			if kind != wire.TypeGoAway || err != nil || g.Code != wire.GoAwayBusy || g.Reason != why.String() || !g.Reconnect || g.After == 0 {
				t.Errorf("a frame of type %#x: %+v, %v", kind, g, err)
			}
			p.closed()
			log.has(t, fmt.Sprintf(`"reason":%q`, why))
		})
	}
}

// TestSoFastFromOneAddress refuses those who come faster than they may, and lets them in later.
func TestSoFastFromOneAddress(t *testing.T) {
	h := start(t, hub.Config{ConnectRate: 5})
	for range 5 {
		h.peer(t)
	}
	h.refused(t)
	if n := h.Stats().Refused[hub.RefusedRate]; n == 0 {
		t.Error("nobody was refused")
	}
	eventually(t, "another may come", func() bool {
		p := h.silent(t)
		if _, err := p.Write([]byte{0, 0, 0, 1, 1}); err != nil {
			return false
		}
		_, _, err := p.next()
		return err == nil
	})
}
