package client

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sechlol/go-message-hub/wire"
)

// TestHello_Read: HELLO.read has the number of frames that were read completely, if the last
// connection had a WELCOME.
func TestHello_Read(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(deliverFrame(1, 0), deliverFrame(2, 0)[:20])
		h.Close()
		tc.wantEvent(EventDisconnected)
		for _, want := range []string{`"read":"1"`, ""} {
			h = <-tc.hubs
			payload, err := h.wantType(wire.TypeHello)
			if err != nil || !strings.Contains(string(payload), want) || strings.Contains(string(payload), "read") != (want != "") {
				t.Errorf("HELLO %s (%v), want %q in it", payload, err, want)
			}
			h.Close()
		}
	})
}

func TestWelcome_Invalid(t *testing.T) {
	for name, change := range map[string]func(*wire.Welcome){
		"another version":  func(w *wire.Welcome) { w.Version = 3 },
		"no credit":        func(w *wire.Welcome) { w.Credit = 0 },
		"a cost below 0":   func(w *wire.Welcome) { w.ReceiverCost = -1 },
		"too high a cost":  func(w *wire.Welcome) { w.ReceiverCost = wire.DefaultReceiverCost + 1 },
		"no window":        func(w *wire.Welcome) { w.Window = -1 },
		"no reports":       func(w *wire.Welcome) { w.MaxReports = 0 },
		"no interval":      func(w *wire.Welcome) { w.Keepalive = 0 },
		"a time below 0":   func(w *wire.Welcome) { w.MaxReportTimeout = -1 },
		"resumed at first": func(w *wire.Welcome) { w.Resumed = true },
		"less than bodies": func(w *wire.Welcome) { w.MaxDeliver = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			h := &fakeHub{t, far}
			made := runAsync(func() error { _, err := NewConn(t.Context(), near, nil); return err })
			w := testWelcome
			change(&w)
			h.wantHello(&wire.Hello{Version: wire.Version2})
			go h.Write(wire.AppendWelcome(nil, &w)) // ends when the client has closed the connection
			if err := waitFor(t, "an error", made); !errors.Is(err, ErrProtocol) {
				t.Errorf("got %v, want %v", err, ErrProtocol)
			}
		})
	}
}

// TestDial_V1Hub has a hub that ignores HELLO.
func TestDial_V1Hub(t *testing.T) {
	for _, version := range []int{0, 2} {
		near, far := net.Pipe()
		defer far.Close()
		h := &fakeHub{t, far}
		var c *Client
		made := runAsync(func() (err error) {
			c, err = NewConn(t.Context(), near, &Options{Version: version})
			return err
		})
		h.wantHello(&wire.Hello{Version: wire.Version2})
		// Ends when the client has read the frames.
		go h.Write(append(deliveryFrame("before"), wire.AppendIdentity(nil, 5)...))
		err := waitFor(t, "NewConn", made)
		if version == 2 {
			if !errors.Is(err, ErrVersion) {
				t.Errorf("got %v, want %v", err, ErrVersion)
			}
			continue
		}
		if err != nil || c.ID() != 5 || c.Version() != 1 {
			t.Fatalf("id %d, version %d, %v", c.ID(), c.Version(), err)
		}
		wantMessage(t, c, "before")
		sent := runAsync(func() error { return c.Send(t.Context(), []uint64{1}, []byte("hello")) })
		h.wantBytes(wire.AppendRelay(nil, []uint64{1}, []byte("hello")))
		if err := waitFor(t, "Send", sent); err != nil {
			t.Error(err)
		}
		far.Close()
		<-c.Done()
		c.Close()
	}
}

// TestWelcome_LimitsBodies checks the body limits of WELCOME, also of a hub that does not
// announce max_deliver. A client with its own MaxBody announces and enforces it.
func TestWelcome_LimitsBodies(t *testing.T) {
	for _, test := range []struct {
		name                  string
		own                   int // Options.MaxBody
		maxBody, maxDeliver   int // of the hub
		wantSend, wantDeliver int
	}{
		{"without max_deliver", 0, 3 << 20, 0, 3 << 20, 3 << 20},
		{"less to send", 0, 100, 3 << 20, 100, 3 << 20},
		{"a small hub", 0, 100, 100, 100, 1 << 20}, // because a later hub can have a larger limit
		{"own limit", 2 << 20, 3 << 20, 2 << 20, 2 << 20, 2 << 20},
		{"own limit above that of the hub", 2 << 20, 100, 100, 100, 2 << 20},
	} {
		for _, extra := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, and %d more", test.name, extra), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := net.Pipe()
					defer far.Close()
					h := &fakeHub{t, far}
					var c *Client
					made := runAsync(func() (err error) {
						c, err = NewConn(t.Context(), near, &Options{MaxBody: test.own})
						return err
					})
					w := testWelcome
					w.MaxBody, w.MaxDeliver = test.maxBody, test.maxDeliver
					h.acceptHello(&wire.Hello{Version: wire.Version2, MaxBody: uint64(test.own)}, w)
					if err := <-made; err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					var large *BodyTooLargeError
					if err := c.Send(t.Context(), nil, make([]byte, test.wantSend+1)); !errors.As(err, &large) || large.Limit != test.wantSend {
						t.Errorf("Send: %v, want a limit of %d", err, test.wantSend)
					}
					body := make([]byte, test.wantDeliver+extra)
					// The goroutine ends when the client has read the frame or closed the connection.
					go h.Write(wire.AppendDeliver(nil, &wire.Deliver{Sender: 1, Seq: 1, Time: 1, Body: body}))
					m, err := c.Receive(t.Context())
					if extra == 0 && (err != nil || len(m.Body) != len(body)) || extra > 0 && !errors.Is(err, ErrProtocol) {
						t.Errorf("received %d bytes of %d, %v", len(m.Body), len(body), err)
					}
				})
			})
		}
	}
}
