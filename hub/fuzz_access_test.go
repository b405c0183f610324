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

// FuzzStranger lets somebody who has no token say arbitrary bytes to a hub that asks for one. All
// that it may hear is one GOAWAY; who is inside must not see it, and must be served.
func FuzzStranger(f *testing.F) {
	hello := wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: "eyJhbGciOiJub25lIn0.e30."})
	for _, say := range [][]byte{
		hello, append(hello, hello...), hello[:9],
		wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, ID: 1, Resume: "x", Token: "y"}),
		wire.AppendHello(nil, &wire.Hello{Version: 3}),
		append([]byte{0, 0, 0, 0}, hello...),
		frameOf(wire.TypeHello, `{"version":2,"token":7}`),
		frameOf(wire.TypeHello, `{"version":2,"id":"-1"}`),
		wire.AppendIdentityRequest(nil),
		wire.AppendListRange(nil, wire.ListRange{}),
		wire.AppendRelay(nil, []uint64{1 << 63}, []byte("x")),
		wire.AppendSend(nil, 1, 0, 0, []uint64{1 << 63}, []byte("x")),
		{0, 0, 0x40, 2, byte(wire.TypeHello)},
	} {
		f.Add(say, uint16(3), false)
		f.Add(say, uint16(50_000), true)
	}
	const good = "what nobody guesses"
	f.Fuzz(func(t *testing.T, say []byte, piece uint16, tcp bool) {
		h, dial := startGuarded(t, tcp, door(map[string]*hub.Grant{good: {}}))
		inside := greet(adopt(t, dial()), wire.Hello{Version: wire.Version2, Token: good})
		heard := sayAll(t, dial(), say, max(int(piece), len(say)/1000)+1, tcp)
		frames := slices.Collect(wire.Frames(heard))
		if len(frames) > 1 {
			t.Errorf("%d frames were heard", len(frames))
		}
		for _, frame := range frames {
			if kind, payload := wire.Split(frame); kind != wire.TypeGoAway {
				t.Errorf("a stranger hears a frame of type %#x: %q", kind, payload)
			}
		}
		eventually(t, "the stranger is gone", func() bool { return len(h.Stats().Disconnected) == 1 })
		if ids := inside.page(0, 0); !slices.Equal(ids, []uint64{inside.ID}) {
			t.Errorf("listed: %v", ids)
		}
		inside.delivered(inside.ID, inside.tell([]byte("x"), 0, 0, inside.ID), []byte("x"))
		inside.Close()
	})
}

// FuzzRestricted lets a client say arbitrary bytes that may send little, and only to one other. That
// one gets no more than that, another nothing, and the client learns of nobody.
func FuzzRestricted(f *testing.F) {
	const restricted, friend, other = 7, 8, 9
	all := []uint64{restricted, friend, other, 10}
	for _, say := range [][]byte{
		wire.AppendSend(wire.AppendSend(nil, 1, only(wire.LevelReceived), 0, all, []byte("a")), 2, 0, 0, []uint64{friend}, make([]byte, 11)),
		wire.AppendRelay(wire.AppendRelay(nil, all, []byte("classic")), []uint64{friend}, make([]byte, 100)),
		wire.AppendListRange(wire.AppendListRequest(nil), wire.ListRange{}),
		wire.AppendWatch(wire.AppendWatch(nil, wire.Watch{On: true}), wire.Watch{}),
		wire.AppendAcks(nil, []wire.Ack{{Sender: other, Seq: 1, Fate: wire.FateRejected}}),
	} {
		f.Add(say, uint16(3), false)
		f.Add(say, uint16(50_000), true)
	}
	f.Fuzz(func(t *testing.T, say []byte, piece uint16, tcp bool) {
		h, dial := startGuarded(t, tcp, door(map[string]*hub.Grant{
			"restricted": {ID: restricted, MaxBody: 10, NoList: true, NoWatch: true, May: func(id uint64) bool { return id == friend }},
			"friend":     {ID: friend}, "other": {ID: other},
		}))
		come := func(token string) *guest {
			return greet(adopt(t, dial()), wire.Hello{Version: wire.Version2, Token: token})
		}
		theFriend, theOther := come("friend"), come("other")
		say = append(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: "restricted"}), say...)
		for frame := range wire.Frames(sayAll(t, dial(), say, max(int(piece), len(say)/1000)+1, tcp)) {
			checkIgnorance(t, frame)
		}
		eventually(t, "the client is gone", func() bool { return len(h.Stats().Disconnected) == 1 })
		for _, d := range theFriend.deliveries() {
			if d.Sender != restricted || len(d.Body) > 10 {
				t.Errorf("%d bytes came from %d", len(d.Body), d.Sender)
			}
		}
		if d := theOther.deliveries(); len(d) > 0 {
			t.Errorf("%d messages came to one to whom the client may not send", len(d))
		}
		theFriend.Close()
		theOther.Close()
	})
}

// checkIgnorance fails if a frame from the hub tells of others.
func checkIgnorance(t *testing.T, frame []byte) {
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
		t.Error("the client has a message")
	}
	if n > 0 {
		t.Errorf("a frame of type %#x tells of others: % x", kind, payload)
	}
}

// deliveries returns what has come until now.
func (g *guest) deliveries() (all []wire.Deliver) {
	g.t.Helper()
	g.send(wire.AppendPing(nil, 1))
	for {
		kind, payload := g.read()
		switch kind {
		case wire.TypePong:
			return all
		case wire.TypeDeliver:
			d, err := wire.ParseDeliver(payload)
			if err != nil {
				g.t.Fatal(err)
			}
			all = append(all, d)
		}
	}
}

// FuzzTLS replaces what a client of TLS says to the hub by something else, from some byte on: all
// of it, a part of its handshake, or of what comes then. What is encrypted reaches the hub as it was,
// or not at all; and others are served over TLS.
func FuzzTLS(f *testing.F) {
	authority := testcerts.NewAuthority(f)
	server := &tls.Config{Certificates: []tls.Certificate{authority.Local().TLS(f)}, MinVersion: tls.VersionTLS12}
	trust := &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"}
	old := trust.Clone()
	old.MaxVersion = tls.VersionTLS12
	for _, say := range [][]byte{
		nil, {0}, []byte("GET / HTTP/1.1\r\n\r\n"), {22, 3, 1, 0xff, 0xff}, {21, 3, 3, 0, 2, 2, 0}, {20, 3, 3, 0, 1, 1},
		clientHello(f, trust), clientHello(f, old), wire.AppendHello(nil, &wire.Hello{Version: wire.Version2}),
	} {
		for _, from := range []uint16{0, 5, 40, 200, 2000} {
			f.Add(say, from, from%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, say []byte, from uint16, older bool) {
		h := startOn(t, hub.Config{MaxBody: fuzzBody, ResumeWindow: time.Millisecond, HandshakeTimeout: 500 * time.Millisecond}, hub.NewTLSListener(listen(t), server))
		config := trust
		if older {
			config = old
		}
		over := &splice{Conn: h.silent(t).Conn, say: say, from: int(from)}
		secure := tls.Client(over, config)
		_, err := secure.Write(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2}))
		over.finish()
		if err == nil {
			_, _ = io.Copy(io.Discard, secure) // until the hub has had enough
		}
		over.Close()
		eventually(t, "the client is gone", func() bool { return len(h.Stats().Disconnected) == 1 })
		for r, n := range h.Stats().Disconnected {
			switch r {
			case hub.ReasonHandshake, hub.ReasonLost, hub.ReasonLeft, hub.ReasonHalfFrame:
			default:
				t.Errorf("%d × %q", n, r)
			}
		}
		servesTwoOthers(t, func() net.Conn {
			nc, err := tls.Dial("tcp", h.addr, config)
			if err != nil {
				t.Fatal(err)
			}
			return nc
		})
	})
}

// splice replaces a part of what is written.
type splice struct {
	net.Conn
	say     []byte
	from    int
	written int
}

func (s *splice) Write(b []byte) (int, error) {
	changed := slices.Clone(b)
	if at := s.from - s.written; at < len(b) {
		copy(changed[max(at, 0):], s.say[min(max(-at, 0), len(s.say)):])
	}
	s.written += len(b)
	return s.Conn.Write(changed)
}

// finish says what is left, and that nothing more comes.
func (s *splice) finish() {
	if from := max(s.written-s.from, 0); from < len(s.say) {
		_, _ = s.Conn.Write(s.say[from:]) // fails when the hub has closed
	}
	_ = s.Conn.(*net.TCPConn).CloseWrite() // as above
}
