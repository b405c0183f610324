package socket

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTheKernelIsToldWhenToGiveUp asks it what it was told.
func TestTheKernelIsToldWhenToGiveUp(t *testing.T) {
	for _, want := range []time.Duration{0, 150 * time.Second} {
		s := newStation(t, tcp, Config{OutboxBytes: 64 << 10, UserTimeout: want})
		got := -1
		err := s.Reader.base.raw.Control(func(fd uintptr) {
			got, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		})
		if err != nil || got != int(want.Milliseconds()) {
			t.Errorf("the kernel gives up after %d ms, want %v (%v)", got, want, err)
		}
		s.Close()
	}
}

// TestAPeerThatTakesNothingIsGivenUp closes its window by not reading.
func TestAPeerThatTakesNothingIsGivenUp(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 64 << 20, UserTimeout: time.Second})
	d := s.dispatch()
	for range 32 {
		s.offer(d, frame(1<<20))
	}
	d.Drop()
	within(t, "given up", s.failed)
	s.Close()
}
