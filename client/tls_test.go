package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/wire"
)

// newTLSHub starts a hub with TLS, and returns its port and a client configuration that trusts
// it.
func newTLSHub(t *testing.T) (port string, trust *tls.Config) {
	t.Helper()
	authority := testcerts.NewAuthority(t)
	return newTLSHubWith(t, authority.IssueLocal()), &tls.Config{RootCAs: authority.Pool()}
}

// newTLSHubWith starts a hub with that certificate, and returns its port.
func newTLSHubWith(t *testing.T, pair testcerts.Pair) (port string) {
	t.Helper()
	server := &tls.Config{Certificates: []tls.Certificate{pair.TLS(t)}, NextProtos: []string{wire.ALPN}}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(context.Background(), ln) }() // ends with Shutdown
	t.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-served
	})
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

// TestTLS_Resume connects, loses the connection, and resumes the session.
func TestTLS_Resume(t *testing.T) {
	port, trust := newTLSHub(t)
	d := newFlakyDialer("127.0.0.1:" + port)
	o := d.options()
	o.TLS = trust
	c, err := client.Dial(t.Context(), "hubs://127.0.0.1:"+port, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for i := range 3 {
		report, err := c.SendReport(t.Context(), []uint64{c.ID()}, make([]byte, 100_000*i), &client.SendOptions{Level: wire.LevelWritten})
		wantFates(t, report, err, wire.FateWritten)
		if m, err := c.Receive(t.Context()); err != nil || len(m.Body) != 100_000*i {
			t.Errorf("received %d bytes, %v", len(m.Body), err)
		}
		d.cut(i%2 == 0)
		d.wantEvent(t, client.EventDisconnected)
		d.wantEvent(t, client.EventResumed)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestDial_Addresses(t *testing.T) {
	port, trust := newTLSHub(t)
	_, plain := newHub(t)
	for _, test := range []struct {
		addr string
		tls  *tls.Config
		want string // part of the error; "": no error
	}{
		{"hubs://localhost:" + port, trust, ""},
		{"localhost:" + port, trust, ""},
		{"hub://" + plain, nil, ""},
		{"HUB://" + plain + "/", nil, ""},
		{"HUBS://localhost:" + port + "/", trust, ""},
		{"hub://", nil, "missing host"},
		{"hub://me@" + plain, nil, "user info"},
		{plain, nil, ""},
		{"hubs://localhost:" + port, nil, "unknown authority"},
		{"hubs://" + plain, trust, "TLS handshake failed with 127.0.0.1"},
		{"hub://" + plain, trust, "hubs://" + plain},
		{"http://" + plain, nil, "unknown scheme http://"},
		{"localhost:" + port, &tls.Config{RootCAs: trust.RootCAs, ServerName: "elsewhere"}, "not elsewhere"},
		{"localhost:" + port, &tls.Config{RootCAs: trust.RootCAs, NextProtos: []string{"h2"}}, "no application protocol"},
	} {
		c, err := client.Dial(t.Context(), test.addr, &client.Options{TLS: test.tls})
		if err == nil {
			err = c.Close()
		}
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.addr, err, test.want)
		}
	}
	var unverified *tls.CertificateVerificationError
	if _, err := client.Dial(t.Context(), "hubs://localhost:"+port, nil); !errors.As(err, &unverified) {
		t.Errorf("%v does not wrap the error of crypto/tls", err)
	}
}
