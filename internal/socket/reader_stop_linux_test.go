package socket

import (
	"errors"
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// waitForBytes waits until n bytes have arrived, without reading them.
func waitForBytes(t *testing.T, nc net.Conn, n int) {
	t.Helper()
	raw := rawConn(nc)
	got := 0
	waitUntil(t, "all bytes have arrived", func() bool {
		raw.Control(func(fd uintptr) { got, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
		return got >= n
	})
}

// TestReader_StopWhenEmpty_ReadsWhatArrived stops the reading of a connection whose bytes have
// arrived.
func TestReader_StopWhenEmpty_ReadsWhatArrived(t *testing.T) {
	for _, test := range []struct {
		name   string
		stream []byte
		end    bool
		want   error
	}{
		{"small frames", slices.Concat(frame(10), frame(1000)), false, ErrInterrupted},
		{"more than a read", slices.Concat(frame(50_000), frame(50_000), frame(100)), false, ErrInterrupted},
		{"a large frame", slices.Concat(frame(100_000), frame(10)), false, ErrInterrupted},
		{"half a frame", slices.Concat(frame(10), frame(1000)[:999]), false, ErrInterrupted},
		{"half a large frame", frame(100_000)[:99_999], false, ErrInterrupted},
		{"the end", frame(10), true, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			near, far := openTCP(t)
			near.(interface{ SetReadBuffer(int) error }).SetReadBuffer(1 << 20)
			config := readerConfig()
			if _, err := far.Write(test.stream); err != nil {
				t.Fatal(err)
			}
			if test.end {
				endWriting(far)
			}
			c := New(near, config, nopHandler{})
			waitForBytes(t, near, len(test.stream))
			c.StopWhenEmpty()
			frames, err := collect(c, func() {})
			if want, wantErr := parse(test.stream, config.MaxLength); len(frames) != len(want) ||
				!errors.Is(err, test.want) && test.want != nil || test.want == nil && !errors.Is(err, wantErr) {
				t.Errorf("%d frames and %v, want %d", len(frames), err, len(want))
			}
		})
	}
}
