package hub

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// newPipe returns a connection to h that is not started, and the client's end of it.
func newPipe(t *testing.T) (server, client net.Conn) {
	t.Helper()
	server, client = net.Pipe()
	t.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

// readWelcome reads the WELCOME that answers a HELLO.
func readWelcome(t *testing.T, client net.Conn) wire.Welcome {
	t.Helper()
	frame := make([]byte, 4096)
	n, err := client.Read(frame[:wire.HeaderSize])
	if err != nil {
		t.Fatal(err)
	}
	frame = frame[:n+int(frame[2])<<8+int(frame[3])-1]
	if _, err := io.ReadFull(client, frame[n:]); err != nil {
		t.Fatal(err)
	}
	kind, payload := wire.Split(frame)
	w, err := wire.ParseWelcome(payload)
	if kind != wire.TypeWelcome || err != nil {
		t.Fatalf("a frame of type %#x, %v, want WELCOME", kind, err)
	}
	return w
}

// sayHello starts a connection whose client sends hello.
func (h *Hub) sayHello(t *testing.T, hello *wire.Hello) (client net.Conn) {
	t.Helper()
	server, client := newPipe(t)
	h.admission.admit(server)
	if _, err := client.Write(wire.AppendHello(nil, hello)); err != nil {
		t.Fatal(err)
	}
	return client
}

// withDetached runs f with a hub that has one detached session, its connection, and the HELLO
// that resumes it.
func withDetached(t *testing.T, f func(t *testing.T, h *Hub, prev *conn, hello *wire.Hello)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Config{KeepAlive: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Shutdown(context.WithoutCancel(t.Context()))
		client := h.sayHello(t, &wire.Hello{Version: wire.Version2})
		w := readWelcome(t, client)
		client.Close()
		synctest.Wait()
		prev := h.lookup(w.ID)
		if prev == nil || prev.v2.Load().attachment.load() != stateDetached {
			t.Fatal("the session is not detached")
		}
		f(t, h, prev, &wire.Hello{Version: wire.Version2, ID: w.ID, Resume: w.Resume})
	})
}

// TestResume_ConnClosedBeforeWelcome_KeepsSession closes a connection between its claim of a
// session and WELCOME. Another connection resumes the session.
func TestResume_ConnClosedBeforeWelcome_KeepsSession(t *testing.T) {
	withDetached(t, func(t *testing.T, h *Hub, prev *conn, hello *wire.Hello) {
		server, _ := newPipe(t)
		c := newConn(h, server, 0)
		c.sock.EnableAcks(h.config.Window, false)
		if !prev.v2.Load().attachment.become(stateClaimed) {
			t.Fatal("the session cannot be claimed")
		}
		c.close(CloseLost)
		var flusher outbox.Flusher
		handler := helloHandler{conn: c, flusher: &flusher, hello: *hello}
		resumed, err := handler.resume(prev)
		flusher.Reset()
		if resumed || !errors.Is(err, errConnClosed) {
			t.Errorf("resumed: %v, %v, want %v", resumed, err, errConnClosed)
		}
		if w := readWelcome(t, h.sayHello(t, hello)); !w.Resumed || w.ID != hello.ID {
			t.Errorf("resumed as %+v, want id %d", w, hello.ID)
		}
	})
}

// TestResume_ReleasedClaim_PassesToNextConn has a connection wait for another one that has
// claimed the session and then releases it.
func TestResume_ReleasedClaim_PassesToNextConn(t *testing.T) {
	withDetached(t, func(t *testing.T, h *Hub, prev *conn, hello *wire.Hello) {
		prev.v2.Load().attachment.become(stateClaimed)
		client := h.sayHello(t, hello)
		synctest.Wait() // the connection waits for the outcome
		prev.v2.Load().releaseClaim()
		if w := readWelcome(t, client); !w.Resumed || w.ID != hello.ID {
			t.Errorf("resumed as %+v, want id %d", w, hello.ID)
		}
	})
}

// TestResume_WindowEndsDuringClaim_EndsSession releases a claim after the resume window is
// over: the session ends, and the connection that waits gets a new one.
func TestResume_WindowEndsDuringClaim_EndsSession(t *testing.T) {
	withDetached(t, func(t *testing.T, h *Hub, prev *conn, hello *wire.Hello) {
		prev.v2.Load().attachment.become(stateClaimed)
		client := h.sayHello(t, hello)
		time.Sleep(h.config.ResumeWindow)
		synctest.Wait()
		if h.lookup(hello.ID) == nil {
			t.Fatal("the session has ended while it is claimed")
		}
		prev.close(CloseLost)
		prev.v2.Load().releaseClaim()
		if w := readWelcome(t, client); w.Resumed {
			t.Error("resumed after the window")
		}
	})
}

// TestResume_DuringShutdown_BeginsNoSession shuts the hub down while a connection waits to resume
// a session, which ends meanwhile. The client gets no new session of a hub that is ending.
func TestResume_DuringShutdown_BeginsNoSession(t *testing.T) {
	withDetached(t, func(t *testing.T, h *Hub, prev *conn, hello *wire.Hello) {
		prev.v2.Load().attachment.become(stateClaimed)
		client := h.sayHello(t, hello)
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { ended <- h.Shutdown(t.Context()) }() // ends below
		synctest.Wait()
		prev.v2.Load().releaseClaim()
		prev.close(CloseShutdown)
		if n, err := client.Read(make([]byte, 100)); err == nil {
			t.Errorf("the client gets %d bytes", n)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestAwaitOtherResume_LooksAgainUnlessClosed ends a claim in each way. A session that could not
// be resumed is closed before its claim is released, and must not be looked up again.
func TestAwaitOtherResume_LooksAgainUnlessClosed(t *testing.T) {
	for _, test := range []struct {
		state  attachState
		closed bool
		want   bool
	}{
		{stateMoved, false, true},
		{stateMoved, true, true}, // the connection ended after its session had moved
		{stateDetached, false, true},
		{stateDetached, true, false},
		{stateClosed, true, false},
		{stateExpired, true, false},
	} {
		prev := &conn{hub: &Hub{closing: make(chan struct{})}}
		v2 := newConnV2(prev, nil, "")
		v2.attachment.state = test.state
		prev.v2.Store(v2)
		if test.closed {
			prev.done.Set()
		}
		if got := v2.awaitOtherResume(); got != test.want {
			t.Errorf("state %d, closed %v: %v, want %v", test.state, test.closed, got, test.want)
		}
	}
}
