package client

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// fuzzHub is a hub that sends a script and ignores what it reads. It begins after the identity
// request, and continues after the list request.
type fuzzHub struct {
	net.Conn
	asked     chan struct{} // gets a value per write
	script    []byte
	cuts      []byte
	read      int // number of calls of Read
	closed    chan struct{}
	closeOnce sync.Once
}

func (h *fuzzHub) Write(p []byte) (int, error) {
	h.asked <- struct{}{}
	return len(p), nil
}

func (h *fuzzHub) Read(p []byte) (int, error) {
	h.read++
	if h.read <= 2 {
		select {
		case <-h.asked:
		case <-h.closed:
			return 0, net.ErrClosed
		}
	}
	switch {
	case h.read == 1:
		return copy(p, wire.AppendIdentity(nil, 7)), nil
	case len(h.script) == 0:
		return 0, io.EOF
	}
	n := len(p)
	if len(h.cuts) > 0 {
		cut := int(h.cuts[h.read%len(h.cuts)])
		n = min(n, 1+len(h.script)/1000+cut*cut)
	}
	n = copy(p[:n], h.script)
	h.script = h.script[n:]
	return n, nil
}

func (h *fuzzHub) Close() error {
	h.closeOnce.Do(func() { close(h.closed) })
	return nil
}

func (h *fuzzHub) SetReadDeadline(time.Time) error { return nil }
func (h *fuzzHub) RemoteAddr() net.Addr            { return &net.TCPAddr{} }

// Limits of the fuzzed client.
const (
	maxFuzzBody = 100_000
	maxFuzzList = 20
)

// expectation is the result that a client must get from a script.
type expectation struct {
	messages [][]byte
	listed   bool // the list reply has come
	err      error
}

func expect(script []byte) (h expectation) {
	for {
		length, typ, payload := splitFrame(script)
		switch {
		case len(script) >= wire.LengthSize && length > 1+maxFuzzBody:
			h.err = ErrProtocol
		case payload == nil:
			h.err = ErrHubClosed
		case typ == 3 && length > 0:
			h.messages = append(h.messages, payload)
		case typ == 2 && len(payload)%wire.IDSize == 0 && !h.listed:
			h.listed = true
		case typ != 0:
			h.err = ErrProtocol
		}
		if h.err != nil {
			return h
		}
		script = script[wire.LengthSize+length:]
	}
}

// splitFrame splits off the first frame; payload is nil if the frame is incomplete.
func splitFrame(b []byte) (length int, typ byte, payload []byte) {
	if len(b) < wire.LengthSize {
		return 0, 0, nil
	}
	length = int(binary.BigEndian.Uint32(b))
	if len(b)-wire.LengthSize < length {
		return length, 0, nil
	}
	if length == 0 {
		return 0, 0, []byte{}
	}
	return length, b[4], b[5 : 4+length]
}

// FuzzClient has a hub that sends arbitrary bytes. The client must receive the messages before
// the first error, report that error, and end.
func FuzzClient(f *testing.F) {
	list := wire.AppendList(nil, []uint64{1, 2}, nil)
	f.Add(deliveryFrames(5), []byte{}, uint32(0), uint32(1))
	f.Add(append(deliveryFrames(3), list...), []byte{0}, uint32(70_000), uint32(1000))
	f.Add(append(list, list...), []byte{3, 200}, uint32(0), uint32(1))
	f.Add(wire.AppendIdentity(nil, 1), []byte{1}, uint32(maxFuzzBody+1), uint32(1<<20))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 9, 9}, []byte{}, uint32(5000), uint32(100))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), []byte{}, uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, script, cuts []byte, large, unread uint32) {
		if large > 0 { // a fuzzer rarely finds a complete large frame by itself
			script = slices.Concat(deliveryFrame(strings.Repeat("L", int(large%(maxFuzzBody+10)))), script)
		}
		h := &fuzzHub{asked: make(chan struct{}, 10), script: script, cuts: cuts, closed: make(chan struct{})}
		c, err := NewConn(t.Context(), h, &Options{Version: 1, MaxBody: maxFuzzBody, MaxList: maxFuzzList, MaxUnread: 1 + int(unread%(1<<20))})
		if err != nil {
			t.Fatal(err)
		}
		listed := runAsync(func() error { _, err := c.List(t.Context()); return err })
		wantExpected(t, c, expect(script), listed)
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

func wantExpected(t *testing.T, c *Client, want expectation, listed <-chan error) {
	i := 0
	for m, err := range c.Messages(t.Context()) {
		switch {
		case err != nil:
			if !errors.Is(err, want.err) {
				t.Errorf("ended with %v, want %v", err, want.err)
			}
		case i >= len(want.messages) || string(m.Body) != string(want.messages[i]):
			t.Errorf("message %d of %d is not what was sent", i, len(want.messages))
		default:
			i++
		}
		m.Release()
	}
	if i != len(want.messages) {
		t.Errorf("%d messages, want %d", i, len(want.messages))
	}
	if err := <-listed; (err == nil) != want.listed {
		t.Errorf("List: %v, want a reply: %v", err, want.listed)
	}
}
