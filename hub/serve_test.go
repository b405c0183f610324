package hub_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// nothingAccepted is a listener that returns neither a connection nor an error.
type nothingAccepted struct{ net.Listener }

func (nothingAccepted) Accept() (net.Conn, error) { return nil, nil }

// TestServe_NilArguments checks that Serve returns an error for a nil listener, and for a
// listener that returns a nil connection.
func TestServe_NilArguments(t *testing.T) {
	h, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer shutdownHub(t, h)
	if err := h.Serve(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "ln is nil") {
		t.Errorf("no listener: %v", err)
	}
	err = h.Serve(t.Context(), nothingAccepted{listen(t)})
	if err == nil || errors.Is(err, hub.ErrClosed) || !strings.Contains(err.Error(), "nothingAccepted") {
		t.Errorf("a listener that accepts nil: %v", err)
	}
}

func TestNewTLSListener_NilArguments(t *testing.T) {
	for name, f := range map[string]func(){
		"listener":      func() { hub.NewTLSListener(nil, new(tls.Config)) },
		"configuration": func() { hub.NewTLSListener(listen(t), nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a nil %s is accepted", name)
				}
			}()
			f()
		}()
	}
}

// TestServe_ContextDone_StopsAcceptingOnly cancels the context of Serve. Serve returns, and
// connected clients are still served.
func TestServe_ContextDone_StopsAcceptingOnly(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.startBystanders(t)
	ln := listen(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, ln) }() // ends with ctx; the test waits
	second := &testHub{Hub: h.Hub, addr: ln.Addr().String()}
	c := second.connectV1(t)

	cause := errors.New("enough")
	cancel(cause)
	if err := <-served; !errors.Is(err, cause) && !errors.Is(err, context.Canceled) {
		t.Errorf("Serve returned %v", err)
	}
	if nc, err := net.Dial("tcp", second.addr); err == nil {
		nc.Close()
		t.Error("the listener is still open")
	}
	c.fence()
	h.connectV1(t).fence()
	bystanders.waitRounds(3)
}

func TestServe_ListenerClosed_Returns(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.startBystanders(t)
	ln := listen(t)
	served := make(chan error, 1)
	go func() { served <- h.Serve(t.Context(), ln) }() // ends with ln; the test waits
	second := &testHub{Hub: h.Hub, addr: ln.Addr().String()}
	c := second.connectV1(t)
	ln.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) || errors.Is(err, hub.ErrClosed) {
		t.Errorf("Serve returned %v, want %v", err, net.ErrClosed)
	}
	c.fence()
	bystanders.waitRounds(3)
}

func TestServe_AfterShutdown_ReturnsErrClosed(t *testing.T) {
	h := start(t, hub.Config{})
	if _, err := h.shutdownTimed(t, testTimeout); err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	if err := h.Serve(t.Context(), ln); !errors.Is(err, hub.ErrClosed) {
		t.Errorf("Serve returned %v, want %v", err, hub.ErrClosed)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is still open: %v", err)
	}
}

// TestServe_AcceptErrors_BackOff has a listener whose Accept fails twelve times. The hub
// retries with growing delays.
func TestServe_AcceptErrors_BackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		h := withoutDeadlines(inMemory.startBehind(t, hub.Config{}, failAccepts(12)))
		c := h.connect(t)
		// The delays are 5 + 10 + … + 640 ms, and then four times 1 s.
		if took, want := time.Since(began), 1275*time.Millisecond+4*time.Second; took != want {
			t.Errorf("accepted after %v, want %v", took, want)
		}
		c.fencePromptly()
		if n := h.Stats().AcceptErrors; n != 12 {
			t.Errorf("%d accept errors counted", n)
		}
	})
}

// failingListener is a listener whose Accept fails the first times with errNoFiles.
type failingListener struct {
	net.Listener
	failures int
}

// failAccepts returns a function that makes a listener fail n times.
func failAccepts(n int) func(net.Listener) net.Listener {
	return func(ln net.Listener) net.Listener { return &failingListener{ln, n} }
}

// Accept fails while failures is positive.
func (l *failingListener) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: errNoFiles}
	}
	return l.Listener.Accept()
}
