package hub

import (
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/sechlol/go-message-hub/internal/socket"
)

// TestConn_Close_FirstReasonCounts closes a connection concurrently, for different reasons. It
// is counted once, and every call returns when the connection is closed.
func TestConn_Close_FirstReasonCounts(t *testing.T) {
	c := newTestConn(t, Config{})
	var wg sync.WaitGroup
	for _, reason := range []CloseReason{CloseSlow, CloseLost, CloseStalled, CloseShutdown} {
		wg.Go(func() {
			c.close(reason)
			if !c.done.IsSet() {
				t.Error("not closed")
			}
			if n := len(c.hub.Stats().Disconnected); n != 1 {
				t.Errorf("%d reasons, want 1", n)
			}
		})
	}
	wg.Wait()
	if n := sum(c.hub.Stats().Disconnected); n != 1 {
		t.Errorf("counted %d times", n)
	}
}

// TestConn_RequestClose_ClosesAtOnce requests the closing of connections that get no GOAWAY: one
// of version 1, and one whose session is detached.
func TestConn_RequestClose_ClosesAtOnce(t *testing.T) {
	detached := newTestConnV2(t)
	detached.attachment.become(stateDetached)
	for name, c := range map[string]*conn{"version 1": newTestConn(t, Config{}), "detached": detached.conn} {
		c.requestClose(&goAway{reason: CloseDisconnected, err: errors.New("away")})
		if n := c.hub.Stats().Disconnected[CloseDisconnected]; n != 1 {
			t.Errorf("%s: counted %d times", name, n)
		}
	}
	if away := detached.goAway.Load(); away != nil {
		t.Errorf("GOAWAY %v for a detached session", away)
	}
}

// TestConn_ReasonFor_InterruptedRead checks why an interrupted connection ends: it was silent,
// the hub shuts down, or neither.
func TestConn_ReasonFor_InterruptedRead(t *testing.T) {
	v2 := newTestConnV2(t)
	check := func(err error, want CloseReason) {
		t.Helper()
		if got := v2.conn.reasonFor(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
	check(socket.ErrInterrupted, CloseLost)
	v2.timedOut.Store(true)
	check(socket.ErrInterrupted, CloseTimeout)
	check(io.EOF, CloseLeft)
	if err := v2.conn.hub.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(socket.ErrInterrupted, CloseShutdown)
	check(io.EOF, CloseLeft)
}
