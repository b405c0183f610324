package hub

import (
	"net"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// newTestConn returns a connection to a hub with that configuration. It is not started.
func newTestConn(t *testing.T, config Config) *conn {
	t.Helper()
	h, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Shutdown(t.Context()) })
	server, client := net.Pipe()
	t.Cleanup(func() { server.Close(); client.Close() })
	return newConn(h, server, 0)
}

// TestClientIO_MaxDeliver_IsThatOfHelloIfLess bounds the bodies that a client is sent.
func TestClientIO_MaxDeliver_IsThatOfHelloIfLess(t *testing.T) {
	const limit = 1000
	for _, test := range []struct {
		hello uint64
		want  int
	}{
		{0, limit},
		{1, 1},
		{limit - 1, limit - 1},
		{limit, limit},
		{1 << 63, limit},
	} {
		c := newTestConn(t, Config{})
		c.setMaxDeliver(test.hello, limit)
		if got := c.maxDeliver(limit); got != test.want {
			t.Errorf("HELLO with %d: %d, want %d", test.hello, got, test.want)
		}
	}
}

// TestClientIO_SendFrame_FailsOnceClosed sends a frame before and after the connection is
// closed.
func TestClientIO_SendFrame_FailsOnceClosed(t *testing.T) {
	c := newTestConn(t, Config{})
	frame := wire.AppendPing(nil, 1)
	if !c.sendFrame(frame, &forceOptions) {
		t.Error("the frame is not taken")
	}
	c.close(CloseLost)
	if c.sendFrame(frame, &forceOptions) {
		t.Error("a frame is taken after close")
	}
	c.sock.Wait()
	if used, _ := c.hub.bodies.Used(); used != 0 {
		t.Errorf("%d bytes are held after close", used)
	}
}
