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

// TestIPLimiter_MaxPerAddress_RejectsTheNext lets in no more at once, and more when some have left.
func TestIPLimiter_MaxPerAddress_RejectsTheNext(t *testing.T) {
	h := start(t, hub.Config{MaxPerAddress: 2})
	first, second := h.connectV1(t), h.connectV1(t)
	h.expectRejectedV1(t)
	if n := h.Stats().Rejected[hub.RejectAddress]; n != 1 {
		t.Errorf("%d refused, want 1", n)
	}
	first.Close()
	eventually(t, "one has left", func() bool { return h.Stats().Clients == 1 })
	eventually(t, "another may come", func() bool {
		c := h.connect(t)
		_, err := c.Write([]byte{0, 0, 0, 1, 1})
		if err != nil {
			return false
		}
		_, _, err = c.readFrame()
		return err == nil
	})
	second.relay([]byte("x"), second.id)
	second.expectRelay([]byte("x"))
}

// TestIPLimiter_DetachedSessions_KeepTheirSlot has all from one address lose their connections and go on. No more
// are expected back than may be connected, so that nobody finds all places taken by those who are not there.
func TestIPLimiter_DetachedSessions_KeepTheirSlot(t *testing.T) {
	h := start(t, hub.Config{MaxPerAddress: 2, ResumeWindow: time.Hour})
	clients := []*clientV2{h.connectV2(t), h.connectV2(t)}
	h.expectRejectedV1(t)
	waitDetached := func(n int) {
		eventually(t, "lost", func() bool {
			detached := 0
			for _, info := range h.Clients(0, 10) {
				if info.Detached {
					detached++
				}
			}
			return detached == n
		})
	}
	for _, c := range clients {
		c.reset()
	}
	waitDetached(2)
	for i, c := range clients {
		if clients[i] = h.resume(t, c); !clients[i].Resumed {
			t.Errorf("came back as %+v", clients[i].Welcome)
		}
	}
	h.expectRejectedV1(t)
	for _, c := range clients {
		c.reset()
	}
	waitDetached(2)
	const others = 3 // whose connections are lost in the meantime are not expected back
	for n := range uint64(others) {
		h.connectHelloRetry(t, wire.Hello{Version: wire.Version2}).reset() // those before it may not be closed yet
		h.waitDisconnected(t, hub.CloseLost, n+1)
	}
	waitDetached(2)
	for _, c := range clients {
		if again := h.resume(t, c); !again.Resumed {
			t.Errorf("came back as %+v", again.Welcome)
		}
	}
}

// TestIPLimiter_ResumeBeforeOldConnEnds_ReleasesSlot loses a connection again and again before the hub is done with the one
// before it: the client is expected back all the same.
func TestIPLimiter_ResumeBeforeOldConnEnds_ReleasesSlot(t *testing.T) {
	unblock := make(chan struct{})
	h := start(t, hub.Config{MaxPerAddress: 1, ResumeWindow: time.Hour, Logger: slog.New(blockingHandler{slog.DiscardHandler, unblock})})
	defer close(unblock)
	c := h.connectV2(t)
	for range 3 {
		c.reset()
		eventually(t, "detached", func() bool { infos := h.Clients(0, 10); return len(infos) == 1 && infos[0].Detached })
		if c = h.resume(t, c); !c.Resumed {
			t.Fatalf("came back as %+v", c.Welcome)
		}
	}
}

// blockingHandler is a log that does not take the end of a session until over is closed.
type blockingHandler struct {
	slog.Handler
	unblock chan struct{}
}

func (b blockingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (b blockingHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "client disconnected" {
		<-b.unblock
	}
	return nil
}

// expectRejectedV1 connects, speaks version 1 and sees the end.
func (h *testHub) expectRejectedV1(t testing.TB) {
	t.Helper()
	c := h.connect(t)
	_, _ = c.Write(wire.AppendIdentityRequest(nil)) // the end may come before it
	if n, err := io.Copy(io.Discard, c); n > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, %v, want the end", n, err)
	}
}

// TestHub_RejectedConn_GetsGoAwayBusy where everybody understands it.
func TestHub_RejectedConn_GetsGoAwayBusy(t *testing.T) {
	for reason, config := range map[hub.RejectReason]hub.Config{
		hub.RejectFull:    {MaxClients: 1},
		hub.RejectAddress: {MaxPerAddress: 1},
		hub.RejectRate:    {ConnectRate: 0.001},
	} {
		t.Run(reason.String(), func(t *testing.T) {
			t.Parallel() // it takes three seconds until a silent one is refused
			log := &logBuffer{}
			config.DisableV1, config.Logger = true, log.logger()
			h := start(t, config)
			h.connectV2(t)
			c := h.connect(t)
			kind, payload := c.mustReadFrame()
			away, err := wire.ParseGoAway(payload)
			if kind != wire.TypeGoAway || err != nil || away.Code != wire.GoAwayBusy || away.Reason != reason.String() || !away.Reconnect || away.After == 0 {
				t.Errorf("a frame of type %#x: %+v, %v", kind, away, err)
			}
			c.expectEOF()
			log.waitFor(t, fmt.Sprintf(`"reason":%q`, reason))
		})
	}
}

// TestIPLimiter_ConnectRate_RejectsAndRecovers refuses those who come faster than they may, and lets them in later.
func TestIPLimiter_ConnectRate_RejectsAndRecovers(t *testing.T) {
	h := start(t, hub.Config{ConnectRate: 5})
	for range 5 {
		h.connectV1(t)
	}
	h.expectRejectedV1(t)
	if n := h.Stats().Rejected[hub.RejectRate]; n == 0 {
		t.Error("nobody was refused")
	}
	eventually(t, "another may come", func() bool {
		c := h.connect(t)
		if _, err := c.Write([]byte{0, 0, 0, 1, 1}); err != nil {
			return false
		}
		_, _, err := c.readFrame()
		return err == nil
	})
}
