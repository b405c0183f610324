package socket

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

func TestConn_CloseWrite_EndsOneDirection(t *testing.T) {
	tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}})
	if err := tc.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := tc.far.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the peer sees %v, want %v", err, io.EOF)
	}
	if _, err := tc.far.Write(frame(10)); err != nil {
		t.Fatal(err)
	}
	if err := tc.Fill(); err != nil {
		t.Errorf("the other side has ended as well: %v", err)
	}
	tc.ReleaseAll()
	tc.drainAndClose(t)
}

func TestConn_CloseWrite_Unsupported(t *testing.T) {
	tc := newTestConn(t, pipe, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}})
	if err := tc.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
	}
}

func TestConn_CloseGracefully_WaitsForPeer(t *testing.T) {
	tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}})
	done := make(chan struct{})
	go func() { // ends when the peer closes
		defer close(done)
		tc.CloseGracefully(time.Hour)
	}()
	if _, err := tc.far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the peer sees %v, want %v", err, io.EOF)
	}
	for range 10 { // late data from the peer must not cause a reset
		if _, err := tc.far.Write(frame(10_000)); err != nil {
			t.Error(err)
		}
	}
	endWriting(tc.far)
	waitFor(t, "the end of the farewell", done)
}

// TestConn_Close_DoesNotWaitForPeer closes a connection whose peer accepts no data and whose
// kernel buffers are full: over TLS there is no room for a close_notify alert.
func TestConn_Close_DoesNotWaitForPeer(t *testing.T) {
	for name, end := range map[string]func(*Conn){
		"Close":    func(c *Conn) { c.Close() },
		"Sever":    func(c *Conn) { c.CloseTransport() },
		"Farewell": func(c *Conn) { c.CloseGracefully(20 * time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			near, _ := overTLS.open(t)
			config := readerConfig()
			config.MaxUnsentBytes = 64 << 10
			c := New(near, config, nopHandler{})
			defer c.ReleaseAll()
			lower := unwrap(near)
			for _, size := range []int{64 << 10, 1} {
				for err := error(nil); err == nil; {
					_ = lower.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
					_, err = lower.Write(make([]byte, size))
				}
			}
			_ = lower.SetWriteDeadline(time.Time{})
			ended := make(chan time.Duration, 1)
			go func() { // ends with the connection, after 5 s at most
				begin := time.Now()
				end(c)
				ended <- time.Since(begin)
			}()
			if took := waitFor(t, "the end", ended); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestConn_CloseGracefully_TimesOut(t *testing.T) {
	tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}})
	tc.Interrupt() // as at a shutdown: the deadline that it set must not end CloseGracefully
	begin := time.Now()
	tc.CloseGracefully(20 * time.Millisecond) // the peer does nothing
	if took := time.Since(begin); took < 20*time.Millisecond {
		t.Errorf("CloseGracefully took %v", took)
	}
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, pipe, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}})
		begin := time.Now()
		tc.CloseGracefully(time.Hour) // no half-close is possible
		if took := time.Since(begin); took != 0 {
			t.Errorf("CloseGracefully took %v", took)
		}
	})
}
