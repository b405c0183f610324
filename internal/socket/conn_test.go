package socket

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

func TestCloseWriteEndsOneSide(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 1 << 20})
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := s.far.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the peer sees %v, want %v", err, io.EOF)
	}
	if _, err := s.far.Write(frame(10)); err != nil {
		t.Fatal(err)
	}
	if err := s.Fill(); err != nil {
		t.Errorf("the other side has ended as well: %v", err)
	}
	s.Drop()
	s.finish(t)
}

func TestCloseWriteSaysWhereItCannot(t *testing.T) {
	s := newStation(t, pipe, Config{OutboxBytes: 1 << 20})
	if err := s.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
	}
}

func TestFarewellWaitsForThePeersEnd(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 1 << 20})
	left := make(chan struct{})
	go func() { // ends with the peer
		defer close(left)
		s.Farewell(time.Hour)
	}()
	if _, err := s.far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the peer sees %v, want %v", err, io.EOF)
	}
	for range 10 { // what the peer still has to say is no reset
		if _, err := s.far.Write(frame(10_000)); err != nil {
			t.Error(err)
		}
	}
	endWriting(s.far)
	within(t, "the end of the farewell", left)
}

// TestConn_EndDoesNotWaitForThePeer has a peer that takes nothing of what the kernel has for it: over TLS there is no room
// left to take leave.
func TestConn_EndDoesNotWaitForThePeer(t *testing.T) {
	for name, end := range map[string]func(*Conn){
		"Close":    func(c *Conn) { c.Close() },
		"Sever":    func(c *Conn) { c.Sever() },
		"Farewell": func(c *Conn) { c.Farewell(20 * time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			near, _ := secure.open(t)
			config := readerConfig()
			config.UnsentBytes = 64 << 10
			c := New(near, config, nobody{})
			defer c.Drop()
			lower := beneath(near)
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
			if took := within(t, "the end", ended); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestFarewellHasAnEnd(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 1 << 20})
	s.Interrupt() // as at a shutdown: what it set must not end the farewell
	begin := time.Now()
	s.Farewell(20 * time.Millisecond) // the peer does nothing
	if took := time.Since(begin); took < 20*time.Millisecond {
		t.Errorf("the farewell took %v", took)
	}
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, pipe, Config{OutboxBytes: 1 << 20})
		begin := time.Now()
		s.Farewell(time.Hour) // the peer cannot be told
		if took := time.Since(begin); took != 0 {
			t.Errorf("the farewell took %v", took)
		}
	})
}
