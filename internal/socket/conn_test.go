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
