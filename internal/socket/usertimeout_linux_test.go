package socket

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// TestConn_SetsUserTimeout reads TCP_USER_TIMEOUT back from the kernel.
func TestConn_SetsUserTimeout(t *testing.T) {
	for _, want := range []time.Duration{0, 150 * time.Second} {
		tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 64 << 10}, UserTimeout: want})
		got := -1
		err := tc.transport().(*tcpTransport).raw.Control(func(fd uintptr) {
			got, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		})
		if err != nil || got != int(want.Milliseconds()) {
			t.Errorf("the kernel gives up after %d ms, want %v (%v)", got, want, err)
		}
		tc.Close()
	}
}

// TestConn_UserTimeoutEndsStalledConn has a peer whose window is closed because it does not
// read.
func TestConn_UserTimeoutEndsStalledConn(t *testing.T) {
	tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 64 << 20}, UserTimeout: time.Second})
	fl := tc.newFlusher()
	for range 32 {
		tc.offer(fl, frame(1<<20))
	}
	fl.Reset()
	waitFor(t, "given up", tc.failed)
	tc.Close()
}
