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

// TestPing_SendsAckBeforePong checks the order of the two frames.
func TestPing_SendsAckBeforePong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(deliverFrame(1, 0), deliverFrame(2, 0))
		for range 2 { // the second Receive marks the first message as received
			if _, err := tc.client.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		h.send(wire.AppendPing(nil, 42))
		h.wantBytes(wire.AppendAck(nil, 1))
		h.wantBytes(wire.AppendPong(nil, 42))
		if took := time.Since(begin); took != 0 {
			t.Errorf("ACK after %v", took)
		}
		h.Close()
		tc.client.session.end(ErrClosed)
	})
}

// TestClient_ProtocolViolationsEndIt: after a protocol violation the client does not reconnect.
func TestClient_ProtocolViolationsEndIt(t *testing.T) {
	shortNumber := func(b []byte) []byte { b[3]--; return b[:len(b)-1] } // a number of 7 bytes
	for name, frame := range map[string][]byte{
		"ACK beyond the last SEND":    wire.AppendAck(nil, 1),
		"a short ACK":                 shortNumber(wire.AppendAck(nil, 1)),
		"a short PING":                shortNumber(wire.AppendPing(nil, 1)),
		"a short PONG":                shortNumber(wire.AppendPong(nil, 1)),
		"an unexpected PONG":          wire.AppendPong(nil, 0),
		"an unexpected REPORT":        wire.AppendReport(nil, 1, nil),
		"a REPORT with a wrong count": {0, 0, 0, 10, byte(wire.TypeReport), 0, 0, 0, 0, 0, 0, 0, 1, 5},
		"a second WELCOME":            wire.AppendWelcome(nil, &testWelcome),
		"an unexpected LIST_PAGE":     wire.AppendListPage(nil, 0, false, nil),
		"a truncated PRESENCE":        {0, 0, 0, 2, byte(wire.TypePresence), 1},
		"a truncated ERROR":           {0, 0, 0, 2, byte(wire.TypeError), 1},
		"a GOAWAY without JSON":       {0, 0, 0, 2, byte(wire.TypeGoAway), '{'},
		"a truncated DELIVER":         {0, 0, 0, 2, byte(wire.TypeDeliver), 1},
		"a body above the limit":      wire.AppendDeliver(nil, &wire.Deliver{Body: make([]byte, wire.DefaultMaxBody+1)}),
		"a SEND":                      sendFrame(1, ""),
		"an unexpected RENEWED":       wire.AppendRenewed(nil, &wire.Renewed{MaxBody: 1}),
		"a RENEWED without JSON":      {0, 0, 0, 2, byte(wire.TypeRenewed), '{'},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc, h := newTestClient(t, nil)
				go h.Write(frame) // ends when the client has closed the connection
				<-tc.client.Done()
				if err := tc.client.Err(); !errors.Is(err, ErrProtocol) {
					t.Errorf("the end is %v, want %v", err, ErrProtocol)
				}
			})
		})
	}
}

// TestSend_RefusedByHub: the refusal goes to the call that waits for a report, or to OnEvent.
func TestSend_RefusedByHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		outcome := make(chan error, 1)
		err := tc.client.SendFunc(t.Context(), []uint64{1}, nil, nil, func(_ *Report, err error) { outcome <- err })
		if err != nil {
			t.Fatal(err)
		}
		if err := tc.client.Send(t.Context(), []uint64{1}, []byte("x")); err != nil {
			t.Fatal(err)
		}
		h.wantBytes(wire.AppendSend(nil, 1, wire.MakeOptions(wire.LevelReceived, 0), 0, []uint64{1}, nil))
		h.wantBytes(sendFrame(2, "x"))
		h.send(wire.AppendError(nil, 1, wire.ErrorBody, "too much"), wire.AppendError(nil, 2, wire.ErrorBody, "too much"))
		var refused *RefusedError
		if err := <-outcome; !errors.As(err, &refused) || refused.Seq != 1 || refused.Reason != "too much" {
			t.Errorf("got %v", err)
		}
		if e := tc.wantEvent(EventRefused); !errors.As(e.Err, &refused) || refused.Seq != 2 {
			t.Errorf("the event has %v", e.Err)
		}
		if n := tc.client.session.sendQueue.count(); n != 0 {
			t.Errorf("%d messages are queued", n)
		}
	})
}

func TestClient_HubClosesConnection(t *testing.T) {
	for _, test := range []struct {
		name string
		last []byte // what the hub sends before the end
		want error
	}{
		{"between two frames", nil, ErrHubClosed},
		{"in the middle of one", deliveryFrame("torn")[:7], ErrHubClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, h := newTestClientV1(t, &Options{MaxQueued: 1})
				c.Send(t.Context(), nil, nil) // fills the queue
				calls := map[string]<-chan error{
					"Send": runAsync(func() error { return c.Send(t.Context(), nil, nil) }),
					"List": runAsync(func() error { _, err := c.List(t.Context()); return err }),
				}
				for name, call := range calls {
					if !isBlocked(call) {
						t.Fatalf("%s does not block", name)
					}
				}
				h.send(deliveryFrames(2), test.last)
				h.Close()
				for name, call := range calls {
					if err := <-call; err == nil || errors.Is(err, ErrClosed) {
						t.Errorf("%s: %v", name, err)
					}
				}
				<-c.Done()
				wantMessage(t, c, "0") // came before the end
				wantMessage(t, c, "1")
				wantClosed(t, c, test.want)
			})
		})
	}
}

// wantClosed checks that every call returns the reason why the client has ended.
func wantClosed(t *testing.T, c *Client, want error) {
	t.Helper()
	if err := c.Err(); !errors.Is(err, want) {
		t.Errorf("Err: %v, want %v", err, want)
	}
	if err := c.Send(t.Context(), []uint64{1}, nil); !errors.Is(err, want) {
		t.Errorf("Send: %v, want %v", err, want)
	}
	if _, err := c.List(t.Context()); !errors.Is(err, want) && !errors.Is(err, ErrConnectionLost) {
		t.Errorf("List: %v, want %v", err, want)
	}
	if _, err := c.Receive(t.Context()); !errors.Is(err, want) {
		t.Errorf("Receive: %v, want %v", err, want)
	}
	n := 0
	for _, err := range c.Messages(t.Context()) {
		if n++; !errors.Is(err, want) {
			t.Errorf("Messages: %v, want %v", err, want)
		}
	}
	if n != 1 {
		t.Errorf("Messages yields %d times at the end, want 1", n)
	}
}

func TestReceive_UnblocksOnHubClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newTestClientV1(t, nil)
		var calls []<-chan error
		for range 5 {
			calls = append(calls, runAsync(func() error { _, err := c.Receive(t.Context()); return err }),
				runAsync(func() error {
					for _, err := range c.Messages(t.Context()) {
						return err
					}
					return nil
				}))
		}
		for _, call := range calls {
			if !isBlocked(call) {
				t.Fatal("Receive returns, and no message has come")
			}
		}
		h.Close()
		for _, call := range calls {
			if err := <-call; !errors.Is(err, ErrHubClosed) {
				t.Errorf("got %v, want %v", err, ErrHubClosed)
			}
		}
	})
}

func TestClient_ConnectionReset(t *testing.T) {
	c, h := newTestClientV1TCP(t, nil)
	h.send(deliveryFrames(3))
	for _, want := range []string{"0", "1", "2"} {
		wantMessage(t, c, want)
	}
	h.Conn.(interface{ SetLinger(int) error }).SetLinger(0)
	h.Close()
	<-c.Done()
	if err := c.Err(); !errors.Is(err, ErrConnectionLost) {
		t.Errorf("got %v, want %v", err, ErrConnectionLost)
	}
}

func TestClient_MalformedReplies(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer []byte // to the list request
		want   error
	}{
		{"a short list", []byte{0, 0, 0, 8, 2, 1, 2, 3, 4, 5, 6, 7}, ErrProtocol},
		{"an unexpected identity", wire.AppendIdentity(nil, 9), ErrProtocol},
		{"a short identity", []byte{0, 0, 0, 8, 1, 1, 2, 3, 4, 5, 6, 7}, ErrProtocol},
		{"a long identity", []byte{0, 0, 0, 10, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9}, ErrProtocol},
		{"two lists", append(wire.AppendList(nil, nil, nil), wire.AppendList(nil, nil, nil)...), ErrProtocol},
		{"an unknown type", []byte{0, 0, 0, 1, 200}, ErrProtocol},
		{"a body over the limit", deliveryFrame(strings.Repeat("x", 101)), ErrProtocol},
		{"a length over every limit", []byte{0, 0, 4, 0, 3}, ErrProtocol},
		{"the largest length", []byte{255, 255, 255, 255}, ErrProtocol},
		{"a list that is too long", wire.AppendList(nil, make([]uint64, 21), nil), ErrProtocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, h := newTestClientV1(t, &Options{MaxBody: 100, MaxList: 20})
				listed := runAsync(func() error { _, err := c.List(t.Context()); return err })
				h.wantBytes(wire.AppendListRequest(nil))
				// Ends when the client has closed the connection.
				go h.Write(append(deliveryFrames(2), test.answer...))
				<-c.Done()
				wantMessage(t, c, "0") // the valid part
				wantMessage(t, c, "1")
				wantClosed(t, c, test.want)
				if err := <-listed; err != nil && !errors.Is(err, test.want) {
					t.Errorf("List: %v, want %v", err, test.want)
				}
				if _, err := io.Copy(io.Discard, h); err != nil {
					t.Errorf("the connection is not closed: %v", err)
				}
			})
		})
	}
}

func TestClient_LargestAllowedFrames(t *testing.T) {
	c, h := newTestClientV1(t, &Options{MaxBody: 100, MaxList: 20})
	listed := runAsync(func() []uint64 { ids, _ := c.List(t.Context()); return ids })
	h.wantBytes(wire.AppendListRequest(nil))
	h.send(deliveryFrame(strings.Repeat("x", 100)), wire.AppendList(nil, make([]uint64, 20), nil))
	if got := waitFor(t, "List", listed); len(got) != 20 {
		t.Errorf("%d ids", len(got))
	}
	wantMessage(t, c, strings.Repeat("x", 100))
}

func TestClient_PartialFrameTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newTestClientV1(t, nil)
		h.send(deliveryFrame("half")[:7])
		<-c.Done()
		if err := c.Err(); !errors.Is(err, ErrConnectionLost) {
			t.Errorf("got %v, want %v", err, ErrConnectionLost)
		}
	})
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
			r := newReader(&s, &repeatingConn{Conn: near, frames: bytes.Repeat(frame, 500)}, 0)
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
