package hub_test

import (
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/wire"
)

// FuzzUnauthenticated lets a client without a valid token send arbitrary bytes to a hub that
// authenticates. The hub may send one GOAWAY and nothing else. An authenticated client must
// not see the other client, and must be served.
func FuzzUnauthenticated(f *testing.F) {
	hello := wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: "eyJhbGciOiJub25lIn0.e30."})
	for _, input := range [][]byte{
		hello, append(hello, hello...), hello[:9],
		wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, ID: 1, Resume: "x", Token: "y"}),
		wire.AppendHello(nil, &wire.Hello{Version: 3}),
		append([]byte{0, 0, 0, 0}, hello...),
		makeFrame(wire.TypeHello, `{"version":2,"token":7}`),
		makeFrame(wire.TypeHello, `{"version":2,"id":"-1"}`),
		wire.AppendIdentityRequest(nil),
		wire.AppendListRange(nil, wire.ListRange{}),
		wire.AppendRelay(nil, []uint64{1 << 63}, []byte("x")),
		wire.AppendSend(nil, 1, 0, 0, []uint64{1 << 63}, []byte("x")),
		{0, 0, 0x40, 2, byte(wire.TypeHello)},
	} {
		f.Add(input, uint16(3), false)
		f.Add(input, uint16(50_000), true)
	}
	const validToken = "a token that cannot be guessed"
	f.Fuzz(func(t *testing.T, input []byte, chunkSize uint16, tcp bool) {
		h := startFuzzedAuth(t, tcp, tokenAuthenticator(map[string]*hub.Permissions{validToken: {}}))
		authenticated := h.connectHello(t, wire.Hello{Version: wire.Version2, Token: validToken})
		output := sendInChunks(t, h, input, max(int(chunkSize), len(input)/1000)+1)
		frames := slices.Collect(wire.Frames(output))
		if len(frames) > 1 {
			t.Errorf("the hub sent %d frames, want at most 1", len(frames))
		}
		for _, frame := range frames {
			if kind, payload := wire.Split(frame); kind != wire.TypeGoAway {
				t.Errorf("an unauthenticated client got a frame of type %#x: %q", kind, payload)
			}
		}
		eventually(t, "the unauthenticated client is disconnected", func() bool { return len(h.Stats().Disconnected) == 1 })
		if ids := authenticated.requestPage(0, 0); !slices.Equal(ids, []uint64{authenticated.ID}) {
			t.Errorf("listed: %v", ids)
		}
		authenticated.expectDeliver(authenticated.ID, authenticated.sendMessage([]byte("x"), 0, 0, authenticated.ID), []byte("x"))
		authenticated.Close()
	})
}

// FuzzRestricted lets a client send arbitrary bytes. The client is allowed to send only to one
// receiver, with bodies of at most 10 bytes. That receiver must get nothing beyond this, another
// client must get nothing, and the client must not learn another id.
func FuzzRestricted(f *testing.F) {
	const restricted, friend, other = 7, 8, 9
	receivers := []uint64{restricted, friend, other, 10}
	for _, input := range [][]byte{
		wire.AppendSend(wire.AppendSend(nil, 1, levelOptions(wire.LevelReceived), 0, receivers, []byte("a")), 2, 0, 0, []uint64{friend}, make([]byte, 11)),
		wire.AppendRelay(wire.AppendRelay(nil, receivers, []byte("v1")), []uint64{friend}, make([]byte, 100)),
		wire.AppendListRange(wire.AppendListRequest(nil), wire.ListRange{}),
		wire.AppendWatch(wire.AppendWatch(nil, wire.Watch{On: true}), wire.Watch{}),
		wire.AppendVerdicts(nil, []wire.Verdict{{Sender: other, Seq: 1, Fate: wire.FateRejected}}),
		wire.AppendWatch(wire.AppendRenew(nil, &wire.Renew{Token: "other"}), wire.Watch{On: true}),
		wire.AppendListRequest(wire.AppendRenew(nil, &wire.Renew{Token: "restricted"})),
	} {
		f.Add(input, uint16(3), false)
		f.Add(input, uint16(50_000), true)
	}
	f.Fuzz(func(t *testing.T, input []byte, chunkSize uint16, tcp bool) {
		h := startFuzzedAuth(t, tcp, tokenAuthenticator(map[string]*hub.Permissions{
			"restricted": {ID: restricted, MaxBody: 10, NoList: true, NoWatch: true, CanSend: func(id uint64) bool { return id == friend }},
			"friend":     {ID: friend}, "other": {ID: other},
		}))
		connect := func(token string) *clientV2 {
			return h.connectHello(t, wire.Hello{Version: wire.Version2, Token: token})
		}
		friendClient, otherClient := connect("friend"), connect("other")
		input = append(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: "restricted"}), input...)
		for frame := range wire.Frames(sendInChunks(t, h, input, max(int(chunkSize), len(input)/1000)+1)) {
			checkRevealsNothing(t, frame)
		}
		eventually(t, "the client is disconnected", func() bool { return len(h.Stats().Disconnected) == 1 })
		for _, d := range friendClient.readDeliveries() {
			if d.Sender != restricted || len(d.Body) > 10 {
				t.Errorf("got a body of %d bytes from client %d", len(d.Body), d.Sender)
			}
		}
		if d := otherClient.readDeliveries(); len(d) > 0 {
			t.Errorf("%d messages reached a receiver to which the client may not send", len(d))
		}
		friendClient.Close()
		otherClient.Close()
	})
}

// checkRevealsNothing fails if a frame from the hub reveals other clients.
func checkRevealsNothing(t *testing.T, frame []byte) {
	t.Helper()
	kind, payload := wire.Split(frame)
	n := 0
	switch kind {
	case wire.TypeList:
		n = len(payload)
	case wire.TypeListPage:
		p, err := wire.ParseListPage(payload)
		if n = p.IDs.Len(); err != nil {
			t.Error(err)
		}
	case wire.TypePresence:
		p, err := wire.ParsePresence(payload)
		if n = p.Joined.Len() + p.Left.Len(); err != nil {
			t.Error(err)
		}
	case wire.TypeDeliver:
		t.Error("the client got a message")
	}
	if n > 0 {
		t.Errorf("a frame of type %#x reveals other clients: % x", kind, payload)
	}
}

// readDeliveries returns the messages that the hub has sent until now.
func (c *clientV2) readDeliveries() (list []wire.Deliver) {
	c.t.Helper()
	c.send(wire.AppendPing(nil, 1))
	for {
		kind, payload := c.nextFrame()
		switch kind {
		case wire.TypePong:
			return list
		case wire.TypeDeliver:
			d, err := wire.ParseDeliver(payload)
			if err != nil {
				c.t.Fatal(err)
			}
			list = append(list, d)
		}
	}
}

// FuzzTLS replaces the bytes that a TLS client sends, from some offset on, by others. The
// offset can lie in the handshake or in the encrypted data. An encrypted byte reaches the hub
// unchanged or not at all: the connection must end for one of four reasons, and the hub must
// still serve other clients over TLS.
func FuzzTLS(f *testing.F) {
	authority := testcerts.NewAuthority(f)
	serverTLS := &tls.Config{Certificates: []tls.Certificate{authority.IssueLocal().TLS(f)}, MinVersion: tls.VersionTLS12}
	clientTLS := &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"}
	clientTLS12 := clientTLS.Clone()
	clientTLS12.MaxVersion = tls.VersionTLS12
	for _, input := range [][]byte{
		nil, {0}, []byte("GET / HTTP/1.1\r\n\r\n"), {22, 3, 1, 0xff, 0xff}, {21, 3, 3, 0, 2, 2, 0}, {20, 3, 3, 0, 1, 1},
		tlsClientHello(f, clientTLS), tlsClientHello(f, clientTLS12), wire.AppendHello(nil, &wire.Hello{Version: wire.Version2}),
	} {
		for _, from := range []uint16{0, 5, 40, 200, 2000} {
			f.Add(input, from, from%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, input []byte, from uint16, useTLS12 bool) {
		h := startOn(t, hub.Config{MaxBody: fuzzMaxBody, ResumeWindow: time.Millisecond, HandshakeTimeout: 500 * time.Millisecond}, hub.NewTLSListener(listen(t), serverTLS))
		config := clientTLS
		if useTLS12 {
			config = clientTLS12
		}
		tampered := &tamperingConn{Conn: h.connect(t).Conn, replacement: input, offset: int(from)}
		secure := tls.Client(tampered, config)
		_, err := secure.Write(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2}))
		tampered.closeWrite()
		if err == nil {
			_, _ = io.Copy(io.Discard, secure) // until the hub closes the connection
		}
		tampered.Close()
		eventually(t, "the client is disconnected", func() bool { return len(h.Stats().Disconnected) == 1 })
		for r, n := range h.Stats().Disconnected {
			switch r {
			case hub.CloseHandshake, hub.CloseLost, hub.CloseLeft, hub.CloseHalfFrame:
			default:
				t.Errorf("%d × %q", n, r)
			}
		}
		checkServesOthers(t, func(t testing.TB) *clientV1 {
			nc, err := tls.Dial("tcp", h.addr, config)
			if err != nil {
				t.Fatal(err)
			}
			return newClientV1(t, nc)
		})
	})
}

// tamperingConn is a connection that replaces the written bytes from offset on.
type tamperingConn struct {
	net.Conn
	replacement []byte
	offset      int
	written     int
}

func (c *tamperingConn) Write(b []byte) (int, error) {
	changed := slices.Clone(b)
	if at := c.offset - c.written; at < len(b) {
		copy(changed[max(at, 0):], c.replacement[min(max(-at, 0), len(c.replacement)):])
	}
	c.written += len(b)
	return c.Conn.Write(changed)
}

// closeWrite sends the rest of the replacement and closes the connection for writing.
func (c *tamperingConn) closeWrite() {
	if from := max(c.written-c.offset, 0); from < len(c.replacement) {
		_, _ = c.Conn.Write(c.replacement[from:]) // fails if the hub has closed the connection
	}
	_ = c.Conn.(*net.TCPConn).CloseWrite() // as above
}
