package socket

import (
	"errors"
	"io"
	"testing"

	"github.com/sechlol/go-message-hub/internal/memorypipe"
)

var _ PollableConn = (*memorypipe.Conn)(nil)

func TestPollableTransport_Idle_HoldsNoBuffer(t *testing.T) {
	near, far := inMemory.open(t)
	config := readerConfig()
	reads := newTestBudget(1 << 20)
	config.ReadAccount = reads.account
	c := New(near, config, nopHandler{})
	defer c.ReleaseAll()
	ended := make(chan error, 1)
	go func() { ended <- c.Fill() }() // ends with the first frame
	waitUntil(t, "the Reader waits", func() bool { return c.WaitSeq()%2 == 1 })
	if n := peak(reads.Budget); n != 0 {
		t.Errorf("a Reader that waits has borrowed %d bytes", n)
	}
	if _, err := far.Write(frame(100)); err != nil {
		t.Fatal(err)
	}
	if err := waitFor(t, "Fill", ended); err != nil {
		t.Error(err)
	}
	if _, ok, err := readNext(c); !ok || err != nil {
		t.Errorf("no frame was read: %v", err)
	}
}

// TestPollableTransport_StopWhenEmpty_ReadsArrived reads what has arrived before the Reader was
// stopped.
func TestPollableTransport_StopWhenEmpty_ReadsArrived(t *testing.T) {
	near, far := inMemory.open(t)
	c := New(near, readerConfig(), nopHandler{})
	defer c.ReleaseAll()
	if _, err := far.Write(frame(100)); err != nil {
		t.Fatal(err)
	}
	c.StopWhenEmpty()
	if err := c.Fill(); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := readNext(c); !ok || err != nil {
		t.Errorf("no frame was read: %v", err)
	}
	if err := c.Fill(); err != ErrInterrupted {
		t.Errorf("without data: %v, want %v", err, ErrInterrupted)
	}
}

func TestPollableTransport_Reset_IsAnError(t *testing.T) {
	near, far := memorypipe.New()
	c := New(near, readerConfig(), nopHandler{})
	defer c.ReleaseAll()
	far.Reset()
	if err := c.Fill(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("Fill after a reset: %v", err)
	}
}
