package natsconn

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const testInfo = `INFO {"server_id":"x","headers":true,"nonce":"n","max_payload":1048576}` + "\r\n"

// fakeServer is the end of a connection at a server that does what a test says.
type fakeServer struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// newPipe returns both ends of a connection in memory, which blocks like a full network.
func newPipe(t *testing.T) (hub net.Conn, s *fakeServer) {
	hub, server := net.Pipe()
	t.Cleanup(func() { server.Close() })
	return hub, &fakeServer{t, server, bufio.NewReader(server)}
}

// send writes to the hub.
func (s *fakeServer) send(text string) {
	if _, err := io.WriteString(s.Conn, text); err != nil {
		s.t.Errorf("write %.40q: %v", text, err)
	}
}

// want reads lines, which must have these beginnings.
func (s *fakeServer) want(prefixes ...string) {
	for _, prefix := range prefixes {
		if line := s.line(); !strings.HasPrefix(line, prefix) {
			s.t.Errorf("the hub has sent %.80q, want %q", line, prefix)
		}
	}
}

// line reads a line, without its end.
func (s *fakeServer) line() string {
	line, err := s.r.ReadString('\n')
	if err != nil {
		s.t.Errorf("read a line: %v", err)
	}
	return strings.TrimSuffix(line, crlf)
}

// accept does what a server does until a hub is connected and subscribed.
func (s *fakeServer) accept() {
	s.send(testInfo)
	s.want("CONNECT", "PING")
	s.send("PONG\r\n" + testInfo) // nats-server sends INFO again after the first PONG
	s.want("SUB a 1", "HPUB a 25 25", "NATS/1.0", "Hub-Probe", "", "", "PING")
	s.send("PONG\r\n")
}

// testConfig is a configuration with which nothing may arrive.
func testConfig(t *testing.T) Config {
	return Config{
		Name: "hub", Version: "v1", Subjects: []string{"a"}, MaxPayload: testMaxPayload,
		Handle:       func(payload []byte) { t.Errorf("unexpected frame %.40q", payload) },
		OnError:      func(err *ServerError) { t.Errorf("unexpected error: %v", err) },
		WriteTimeout: 2 * time.Second, PingInterval: time.Second, MaxPings: 2,
	}
}

// open opens a connection to a fakeServer, which ends with the test.
func open(t *testing.T, config Config) (*Conn, *fakeServer) {
	t.Helper()
	hub, s := newPipe(t)
	go s.accept() // ends before Open
	c, err := Open(t.Context(), hub, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, s
}

// tryOpen opens a connection to a server that serve plays, and returns the error.
func tryOpen(t *testing.T, ctx context.Context, config Config, serve func(*fakeServer)) error {
	t.Helper()
	hub, s := newPipe(t)
	served := make(chan struct{})
	go func() { // ends with serve, for which tryOpen waits
		defer close(served)
		serve(s)
	}()
	c, err := Open(ctx, hub, config)
	if err == nil {
		c.Close()
	}
	s.Close()
	<-served
	return err
}
