package client

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// listenOnce accepts one connection and runs hub on it.
func listenOnce(t *testing.T, hub func(*fakeHub)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the hub, or with the listener
		defer close(done)
		if nc, err := ln.Accept(); err == nil {
			defer nc.Close()
			hub(&fakeHub{t, nc})
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String()
}

func TestDial_ReceivesID(t *testing.T) {
	for _, id := range []uint64{1, 1<<64 - 1} {
		addr := listenOnce(t, func(h *fakeHub) {
			h.wantBytes(wire.AppendIdentityRequest(nil))
			h.send(wire.AppendIdentity(nil, id))
			h.wantEOF()
		})
		c, err := Dial(t.Context(), addr, &Options{Version: 1})
		if err != nil {
			t.Fatal(err)
		}
		if c.ID() != id || c.Err() != nil {
			t.Errorf("id %d, want %d (%v)", c.ID(), id, c.Err())
		}
		select {
		case <-c.Done():
			t.Error("Done is closed already")
		default:
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDial_CanceledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, "127.0.0.1:1", nil); !errors.Is(err, context.Canceled) && !isCanceled(err) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// isCanceled reports whether err is the error of package net for a canceled dial, which does
// not wrap context.Canceled.
func isCanceled(err error) bool { return strings.Contains(err.Error(), "operation was canceled") }

func TestDial_ConnectionRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	if _, err := Dial(t.Context(), addr, &Options{Version: 1}); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v, want connection refused by %s", err, addr)
	}
}

func TestNewConn_ContextTimeout(t *testing.T) {
	for _, reads := range []bool{true, false} { // whether the hub reads the identity request
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			got := make(chan []byte, 1)
			if reads {
				go func() { // ends with the connection
					sent, _ := io.ReadAll(far)
					got <- sent
				}()
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			begin := time.Now()
			c, err := NewConn(ctx, near, &Options{Version: 1})
			if c != nil || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v and %v, want %v", c, err, context.DeadlineExceeded)
			}
			if took := time.Since(begin); took != time.Minute {
				t.Errorf("gave up after %v", took)
			}
			if reads {
				<-got // the connection is closed
			} else if _, err := far.Write([]byte{0}); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("the connection is not closed: %v", err)
			}
		})
	}
}

func TestDial_HubClosesDuringHandshake(t *testing.T) {
	for _, test := range []struct {
		name string
		hub  func(*fakeHub)
		want error
	}{
		{"at once", func(*fakeHub) {}, nil},
		{"after the identity request", func(h *fakeHub) { h.wantBytes(wire.AppendIdentityRequest(nil)) }, ErrHubClosed},
		{"within its reply", func(h *fakeHub) {
			h.wantBytes(wire.AppendIdentityRequest(nil))
			h.send(wire.AppendIdentity(nil, 7)[:9])
		}, ErrHubClosed},
		{"after an invalid reply", func(h *fakeHub) {
			h.wantBytes(wire.AppendIdentityRequest(nil))
			h.send([]byte("HTTP/1.1 400 Bad Request\r\n"))
		}, ErrProtocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Dial(t.Context(), listenOnce(t, test.hub), &Options{Version: 1})
			if c != nil || err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Fatalf("got %v and %v, want %v", c, err, test.want)
			}
			if guess := strings.Contains(err.Error(), "may require a token"); test.want != nil && guess != (test.name == "after the identity request") {
				t.Errorf("the reason is %v", err)
			}
		})
	}
}

func TestDial_MessagesBeforeID(t *testing.T) {
	addr := listenOnce(t, func(h *fakeHub) {
		h.wantBytes(wire.AppendIdentityRequest(nil))
		h.send(deliveryFrames(2), wire.AppendIdentity(nil, 3))
		h.wantEOF()
	})
	c, err := Dial(t.Context(), addr, &Options{Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wantMessage(t, c, "0")
	wantMessage(t, c, "1")
}

// TestNewConn_TimeoutWithBlockedCallback has a callback that was called before NewConn
// returned.
func TestNewConn_TimeoutWithBlockedCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		release := make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() { // ends when the client has read the frames
			h := &fakeHub{t, far}
			h.wantBytes(wire.AppendIdentityRequest(nil))
			h.send(deliveryFrame("before the id"))
		}()
		begin := time.Now()
		_, err := NewConn(ctx, near, &Options{Version: 1, OnMessage: func(Message) { <-release }})
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took > time.Minute+callbackTimeout {
			t.Errorf("gave up after %v: %v", took, err)
		}
		close(release)
	})
}

// TestNilArguments checks that nil arguments are errors at once, and no panic later.
func TestNilArguments(t *testing.T) {
	nothing := func(context.Context) (net.Conn, error) { return nil, nil }
	for name, f := range map[string]func() error{
		"NewConn":          func() error { _, err := NewConn(t.Context(), nil, nil); return err },
		"NewConn, options": func() error { _, err := NewConn(t.Context(), nil, &Options{Version: 9}); return err },
		"Dial":             func() error { _, err := Dial(t.Context(), "", &Options{Dial: nothing}); return err },
		"Dial over TLS":    func() error { _, err := Dial(t.Context(), "hubs://x", &Options{Dial: nothing}); return err },
		"SendFunc": func() error {
			c, _ := newTestClientV1(t, nil)
			return c.SendFunc(t.Context(), nil, nil, nil, nil)
		},
	} {
		if err := f(); err == nil || errors.Is(err, ErrVersion) {
			t.Errorf("%s takes nil: %v", name, err)
		}
	}
}

// TestNewConn_TimeoutSendsBye: WELCOME can come, and its ACK be sent, at the moment of the
// timeout.
func TestNewConn_TimeoutSendsBye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		h := &fakeHub{t, far}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		made := runAsync(func() error { _, err := NewConn(ctx, near, nil); return err })
		h.wantHello(&wire.Hello{Version: wire.Version2})
		h.wantBytes(wire.AppendBye(nil))
		h.wantEOF()
		if err := <-made; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("gave up with %v", err)
		}
	})
}
