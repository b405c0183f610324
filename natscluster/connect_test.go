package natscluster

import (
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
)

// TestConn_FailedWriteCloses checks that after a write that takes too long, others fail at once.
func TestConn_FailedWriteCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, server := net.Pipe() // nobody reads
		defer server.Close()
		c := conn{hub}
		if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 3 {
			if _, err := c.Write([]byte("x")); err == nil {
				t.Error("no error")
			}
			c.SetWriteDeadline(time.Now().Add(writeTimeout)) // as nats.go does
		}
		if took := time.Since(start); took != writeTimeout {
			t.Errorf("three writes took %v", took)
		}
	})
}

func TestWithUser_AddsUserOfFirstURL(t *testing.T) {
	c := &Cluster{config: Config{URLs: []string{"nats://user:secret@a:4222", "nats://b"}}}
	if got := c.withUser([]string{"nats://10.0.0.1:4222"}); !slices.Equal(got, []string{"nats://user:secret@10.0.0.1:4222"}) {
		t.Errorf("%q", got)
	}
	c.config.URLs[0] = "nats://a:4222"
	if got := c.withUser([]string{"nats://10.0.0.1:4222"}); !slices.Equal(got, []string{"nats://10.0.0.1:4222"}) {
		t.Errorf("%q", got)
	}
}

// TestSession_ConnectErrors has nats.go try servers, one of them twice.
func TestSession_ConnectErrors(t *testing.T) {
	s, refused, last := new(session), errors.New("a: refused"), errors.New("denied")
	if err := s.connectErrors(nats.ErrNoServers); !errors.Is(err, nats.ErrNoServers) {
		t.Error(err)
	}
	for _, err := range []error{refused, errors.New("a: refused"), errors.New("b: unknown")} {
		s.addDialError(err)
	}
	if err := s.connectErrors(nats.ErrNoServers); err.Error() != "a: refused; b: unknown" || !errors.Is(err, refused) {
		t.Error(err)
	}
	if err := s.connectErrors(last); err.Error() != "a: refused; b: unknown; denied" || !errors.Is(err, refused) || !errors.Is(err, last) {
		t.Error(err)
	}
}

func TestSession_Options(t *testing.T) {
	c := &Cluster{config: Config{}.withDefaults()}
	list, err := c.options(t.Context(), new(session))
	if err != nil {
		t.Fatal(err)
	}
	o := nats.GetDefaultOptions()
	for _, option := range list {
		if err := errors.Join(option(&o)); err != nil {
			t.Fatal(err)
		}
	}
	if o.AllowReconnect || !o.NoEcho || o.PingInterval != time.Second || o.MaxPingsOut != 2 || o.FlusherTimeout != writeTimeout || o.ReconnectBufSize != -1 {
		t.Errorf("%+v", o)
	}
}
