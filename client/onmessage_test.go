package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/sechlol/go-message-hub/wire"
)

// collector keeps copies of the bodies of messages.
type collector struct{ bodies chan string }

func newCollector() *collector { return &collector{make(chan string, 100)} }

func (c *collector) collect(m Message) {
	c.bodies <- string(m.Body)
	m.Release() // allowed in OnMessage, without effect
}

func TestOnMessage_InOrder(t *testing.T) {
	got := newCollector()
	_, h := newTestClientV1(t, &Options{OnMessage: got.collect})
	sizes := []int{0, 1, 100, 5000, 65_531, 65_532, 200_000, wire.DefaultMaxBody, 0}
	go func() { // ends when all frames are read
		for i, size := range sizes {
			h.send(deliveryFrame(strings.Repeat(fmt.Sprint(i), size)))
		}
	}()
	for i, size := range sizes {
		if body := waitFor(t, "a message", got.bodies); body != strings.Repeat(fmt.Sprint(i), size) {
			t.Errorf("message %d has %d bytes or a wrong body; want %d bytes", i, len(body), size)
		}
	}
}

// TestMessage_FitsRegisters checks that a Message is passed in registers. Of the nine integer
// registers, the receiver of a method can take one.
func TestMessage_FitsRegisters(t *testing.T) {
	if got, max := unsafe.Sizeof(Message{}), 8*unsafe.Sizeof(uintptr(0)); got > max {
		t.Errorf("a message takes %d bytes, at most %d go in registers", got, max)
	}
}

// TestOnMessage_CalledBeforeLaterReply checks which messages were delivered when List returns.
func TestOnMessage_CalledBeforeLaterReply(t *testing.T) {
	got := newCollector()
	c, h := newTestClientV1(t, &Options{OnMessage: got.collect})
	listed := runAsync(func() []uint64 { ids, _ := c.List(t.Context()); return ids })
	h.wantBytes(wire.AppendListRequest(nil))
	h.send(deliveryFrame("before the answer"), wire.AppendList(nil, []uint64{1}, nil))
	if ids := waitFor(t, "List", listed); !slices.Equal(ids, []uint64{1}) {
		t.Errorf("got %v", ids)
	}
	if len(got.bodies) != 1 {
		t.Errorf("%d messages were delivered before the reply, want 1", len(got.bodies))
	}
}

// TestReceive_WithOnMessageWaitsForEnd: with OnMessage, Receive returns only the end.
func TestReceive_WithOnMessageWaitsForEnd(t *testing.T) {
	got := newCollector()
	c, h := newTestClientV1(t, &Options{OnMessage: got.collect})
	received := runAsync(func() error { _, err := c.Receive(context.Background()); return err })
	h.send(deliveryFrame("not for Receive"))
	if body := waitFor(t, "the message", got.bodies); body != "not for Receive" {
		t.Errorf("got %q", body)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := waitFor(t, "Receive", received); !errors.Is(err, ErrClosed) {
		t.Errorf("Receive returns %v, want %v", err, ErrClosed)
	}
}

// TestClose_WaitsForOnMessage closes the client while OnMessage runs.
func TestClose_WaitsForOnMessage(t *testing.T) {
	entered, leave, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	c, h := newTestClientV1TCP(t, &Options{OnMessage: func(Message) {
		close(entered)
		<-leave
		close(returned)
	}})
	h.send(deliveryFrame("the only one"))
	waitFor(t, "the message", entered)
	closed := runAsync(func() error { return c.Close() })
	<-c.session.life.closing
	close(leave)
	h.Close()
	if err := waitFor(t, "Close", closed); err != nil {
		t.Error(err)
	}
	select {
	case <-returned:
	default:
		t.Error("Close returned while OnMessage ran")
	}
}

// TestOnMessage_MaySend calls Send in OnMessage.
func TestOnMessage_MaySend(t *testing.T) {
	var c *Client
	ready := make(chan struct{})
	c, h := newTestClientV1TCP(t, &Options{OnMessage: func(m Message) {
		<-ready
		if err := c.Send(context.Background(), []uint64{7}, m.Body); err != nil {
			t.Error(err)
		}
	}})
	close(ready)
	h.send(deliveryFrame("echo"))
	h.wantBytes(wire.AppendRelay(nil, []uint64{7}, []byte("echo")))
}

// TestKeepAlive_IgnoresCallbackTime blocks the read goroutine in each kind of callback for
// longer than two keep-alive intervals.
func TestKeepAlive_IgnoresCallbackTime(t *testing.T) {
	const long = time.Minute // testWelcome has a keep-alive of 10 s
	for name, change := range map[string]func(*Options){
		"OnMessage": func(o *Options) { o.OnMessage = func(Message) { time.Sleep(long) } },
		"OnEvent": func(o *Options) {
			onEvent := o.OnEvent
			o.OnEvent = func(e Event) {
				if onEvent(e); e.Kind == EventRefused {
					time.Sleep(long)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc, h := newTestClient(t, change)
				// Ends with the connection.
				go io.Copy(io.Discard, h)
				// About a message without a report.
				h.send(deliverFrame(1, 0), wire.AppendError(nil, 99, wire.ErrorBody, "too large"))
				time.Sleep(long + 5*time.Second)
				h.send(wire.AppendPing(nil, 1)) // bytes came within two intervals
				synctest.Wait()
				for len(tc.events) > 0 {
					if e := <-tc.events; e.Kind == EventDisconnected {
						t.Errorf("disconnected: %v", e.Err)
					}
				}
			})
		})
	}
}

// repeatingConn is a connection from which the same frames can be read without end, many with
// each Read.
type repeatingConn struct {
	net.Conn
	frames    []byte
	remaining []byte
}

func (s *repeatingConn) Read(b []byte) (n int, err error) {
	for n < len(b) {
		if len(s.remaining) == 0 {
			s.remaining = s.frames
		}
		m := copy(b[n:], s.remaining)
		n, s.remaining = n+m, s.remaining[m:]
	}
	return n, nil
}

// BenchmarkOnMessage measures the work of the client for messages of 128 bytes, without the
// kernel.
func BenchmarkOnMessage(b *testing.B) {
	body := make([]byte, 128)
	for name, frame := range map[string][]byte{
		"version 1": wire.AppendRelayDelivery(nil, body),
		"version 2": wire.AppendDeliver(nil, &wire.Deliver{Sender: 1, Seq: 1, Time: 1, Body: body}),
	} {
		b.Run(name, func(b *testing.B) {
			near, far := net.Pipe()
			b.Cleanup(func() { near.Close(); far.Close() })
			left := b.N
			var s session
			s.options.OnMessage = func(Message) { left-- }
			r := newReader(&s, &repeatingConn{Conn: near, frames: bytes.Repeat(frame, 500)})
			r.maxBody, r.welcome = len(body), new(wire.Welcome)
			defer r.conn.sock.ReleaseAll()
			b.ResetTimer()
			for left > 0 {
				if err := r.conn.sock.Fill(); err != nil {
					b.Fatal(err)
				}
				if _, err := r.handleFrames(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
