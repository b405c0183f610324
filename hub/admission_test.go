package hub_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestIPLimiter_MaxPerAddress_RejectsTheNext checks that a connection beyond MaxPerAddress is
// rejected, and that another is accepted after a client has left.
func TestIPLimiter_MaxPerAddress_RejectsTheNext(t *testing.T) {
	h := start(t, hub.Config{MaxPerAddress: 2})
	first, second := h.connectV1(t), h.connectV1(t)
	h.expectRejectedV1(t)
	if n := h.Stats().Rejected[hub.RejectAddress]; n != 1 {
		t.Errorf("%d rejected, want 1", n)
	}
	first.Close()
	eventually(t, "one is disconnected", func() bool { return h.Stats().Clients == 1 })
	eventually(t, "another is accepted", func() bool {
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

// TestIPLimiter_DetachedSessions_KeepTheirSlot has all clients of an address lose their
// connections and resume. There are at most MaxPerAddress detached sessions of an address,
// such that detached sessions never take the slots of new connections.
func TestIPLimiter_DetachedSessions_KeepTheirSlot(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MaxPerAddress: 2, ResumeWindow: time.Hour})
		clients := []*clientV2{h.connectV2(t), h.connectV2(t)}
		h.expectRejectedV1(t)
		waitDetached := func(n int) {
			eventually(t, "detached", func() bool {
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
				t.Errorf("resumed as %+v", clients[i].Welcome)
			}
		}
		h.expectRejectedV1(t)
		for _, c := range clients {
			c.reset()
		}
		waitDetached(2)
		const others = 3 // their sessions end when their connections are lost
		for n := range uint64(others) {
			// The hub has possibly not closed the previous connections yet.
			h.connectHelloRetry(t, wire.Hello{Version: wire.Version2}).reset()
			h.waitDisconnected(t, hub.CloseLost, n+1)
		}
		waitDetached(2)
		for _, c := range clients {
			if again := h.resume(t, c); !again.Resumed {
				t.Errorf("resumed as %+v", again.Welcome)
			}
		}
	})
}

// TestIPLimiter_ResumeBeforeOldConnEnds_ReleasesSlot loses a connection and resumes, again and
// again, while the hub has not finished the previous connections. The session must be kept
// each time.
func TestIPLimiter_ResumeBeforeOldConnEnds_ReleasesSlot(t *testing.T) {
	unblock := make(chan struct{})
	h := start(t, hub.Config{MaxPerAddress: 1, ResumeWindow: time.Hour, Logger: slog.New(blockingHandler{slog.DiscardHandler, unblock})})
	defer close(unblock)
	c := h.connectV2(t)
	for range 3 {
		c.reset()
		eventually(t, "detached", func() bool { infos := h.Clients(0, 10); return len(infos) == 1 && infos[0].Detached })
		if c = h.resume(t, c); !c.Resumed {
			t.Fatalf("resumed as %+v", c.Welcome)
		}
	}
}

// blockingHandler is a log handler that blocks at the message "client disconnected" until
// unblock is closed.
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

// TestHub_RejectedConn_GetsGoAwayBusy checks that a rejected connection gets a GOAWAY "busy"
// with the reason if version 1 is disabled, when each client knows that frame.
func TestHub_RejectedConn_GetsGoAwayBusy(t *testing.T) {
	t.Parallel() // it mostly waits
	for reason, config := range map[hub.RejectReason]hub.Config{
		hub.RejectFull:    {MaxClients: 1},
		hub.RejectAddress: {MaxPerAddress: 1},
		hub.RejectRate:    {ConnectRate: 0.001},
	} {
		t.Run(reason.String(), func(t *testing.T) {
			t.Parallel() // a silent connection is rejected only after three seconds
			run := onTransports
			if reason == hub.RejectRate {
				run = overTCP.test // the hub writes no GOAWAY to another connection that it does not admit
			}
			run(t, func(t *testing.T, tr testTransport) {
				log, config := &logBuffer{}, config
				config.DisableV1, config.Logger = true, log.logger()
				h := tr.start(t, config)
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
		})
	}
}

// TestIPLimiter_ConnectRate_RejectsAndRecovers rejects connections beyond ConnectRate and
// accepts others later.
func TestIPLimiter_ConnectRate_RejectsAndRecovers(t *testing.T) {
	h := start(t, hub.Config{ConnectRate: 5})
	for range 5 {
		h.connectV1(t)
	}
	h.expectRejectedV1(t)
	if n := h.Stats().Rejected[hub.RejectRate]; n == 0 {
		t.Error("no connection was rejected")
	}
	eventually(t, "another is accepted", func() bool {
		c := h.connect(t)
		if _, err := c.Write([]byte{0, 0, 0, 1, 1}); err != nil {
			return false
		}
		_, _, err := c.readFrame()
		return err == nil
	})
}
