package hub_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/tokens"
	"github.com/sechlol/go-message-hub/wire"
)

// besiegers is how many do the same at once. bench/ has ten thousand of each.
const besiegers = 20

// siege is a hub that asks for certificates and tokens, with two bystanders inside who
// have both.
type siege struct {
	*testHub
	t          testing.TB
	trust      *tls.Config // how a client with a good certificate speaks TLS
	own        *testcerts.Authority
	keys       []byte // those by which the hub knows good tokens
	signer     *tokens.Signer
	bystanders *bystanders
	goroutines int // before anybody means harm
}

// besiege starts it. The bystanders work until the end of the test.
func besiege(t testing.TB, config hub.Config) *siege {
	t.Helper()
	s := &siege{t: t, own: testcerts.NewAuthority(t)}
	s.signer, s.keys = newSigner(t)
	keys, err := tokens.ParseKeys(s.keys)
	if err != nil {
		t.Fatal(err)
	}
	config.Admit = func(a hub.Applicant) (*hub.Grant, error) {
		c, err := keys.Verify(a.Token, tokens.Issuer{}, time.Now())
		if err != nil {
			return nil, err
		}
		return &hub.Grant{Subject: c.Subject, ID: c.ID, Until: c.Until, May: c.May, NoList: c.NoList, NoWatch: c.NoWatch, MaxBody: c.MaxBody}, nil
	}
	server := &tls.Config{
		Certificates: []tls.Certificate{s.own.Local().TLS(t)}, NextProtos: []string{wire.ALPN}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: s.own.Pool(),
	}
	s.testHub = startOn(t, config, hub.NewTLSListener(listen(t), server))
	s.trust = &tls.Config{
		RootCAs: s.own.Pool(), ServerName: "localhost", NextProtos: []string{wire.ALPN}, Certificates: []tls.Certificate{s.own.Local().TLS(t)},
	}
	s.credentials = client.Options{TLS: s.trust, Token: func(context.Context) (string, error) { return s.token(tokens.Claims{Subject: "bystander"}), nil }}
	s.bystanders = s.bystand(t)
	s.bystanders.pass(3)
	s.goroutines = runtime.NumGoroutine()
	return s
}

func newSigner(t testing.TB) (s *tokens.Signer, public []byte) {
	t.Helper()
	private, public, err := tokens.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if s, err = tokens.ParseSigner(private); err != nil {
		t.Fatal(err)
	}
	return s, public
}

// token signs what is good for an hour, unless it says until when.
func (s *siege) token(c tokens.Claims) string {
	s.t.Helper()
	if c.Until.IsZero() {
		c.Until = time.Now().Add(time.Hour)
	}
	token, err := s.signer.Sign(&c, tokens.Issuer{}, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// stranger connects and agrees on TLS, with the certificate of a client unless it is
// told otherwise, and says nothing more.
func (s *siege) stranger(change ...func(*tls.Config)) *peer {
	s.t.Helper()
	p := s.silent(s.t)
	config := s.trust.Clone()
	for _, c := range change {
		c(config)
	}
	secure := tls.Client(p.Conn, config)
	if err := secure.Handshake(); err != nil {
		s.t.Fatal(err)
	}
	p.Conn = secure
	return p
}

// insider has come in, with a good token.
func (s *siege) insider() *guest {
	s.t.Helper()
	return greet(s.stranger(), wire.Hello{Version: wire.Version2, Token: s.token(tokens.Claims{Subject: "insider"})})
}

// insiders are all of them, each with a small receive buffer.
func (s *siege) insiders() (all []*guest) {
	s.t.Helper()
	for range besiegers {
		g := s.insider()
		g.small()
		all = append(all, g)
	}
	return all
}

// turnedAway shows a token that is no good.
func (s *siege) turnedAway(token string) {
	s.t.Helper()
	g := &guest{peer: s.stranger()}
	g.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: token}))
	if away := g.sentAway(wire.GoAwayRefused); away.Reconnect {
		s.t.Errorf("who shows %.40q is asked to come back", token)
	}
}

// drip sends to each of them a byte now and then, until nobody takes any more.
func (s *siege) drip(what func(i int) []byte, to ...*peer) {
	s.t.Helper()
	background(s.t, func() error {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n, open := 0, true; open; n++ {
			<-tick.C
			open = false
			for i, p := range to {
				if b := what(i); n < len(b) {
					_, err := p.Write(b[n : n+1])
					open = open || err == nil
				}
			}
		}
		return nil
	})
}

// repelled holds the hub to what must be true when it has got rid of everybody who meant harm, n
// of them, for one of these reasons: the bystanders go on, and when they leave, nothing stays.
func (s *siege) repelled(n int, reasons ...hub.Reason) {
	s.t.Helper()
	eventually(s.t, "all of them are gone", func() bool {
		var gone uint64
		for _, r := range reasons {
			gone += s.Stats().Disconnected[r]
		}
		return gone >= uint64(n)
	})
	for r, n := range s.Stats().Disconnected {
		if !slices.Contains(reasons, r) {
			s.t.Errorf("%d × %q", n, r)
		}
	}
	s.bystanders.pass(3)
	eventually(s.t, "only the bystanders are left", func() bool { return s.Stats().Clients == 2 })
	if c := s.Stats().Connected; c != uint64(n)+2 {
		s.t.Errorf("%d have connected, want %d and the bystanders", c, n)
	}
	eventually(s.t, "no goroutine is left of them", func() bool { return runtime.NumGoroutine() <= s.goroutines })
	s.bystanders.end()
	for _, c := range []*client.Client{s.bystanders.a, s.bystanders.b} {
		if err := c.Close(); err != nil {
			s.t.Errorf("a bystander leaves: %v", err)
		}
	}
	eventually(s.t, "the memory is free", func() bool { s := s.Stats(); return s.Clients == 0 && s.QueuedBytes == 0 })
}

// TestSiege has a hub with everything on deal with one kind of hostile client after the other,
// while two bystanders exchange messages that they verify.
func TestSiege(t *testing.T) {
	quick := hub.Config{HandshakeTimeout: 2 * time.Second, FrameTimeout: 3 * time.Second, StallTimeout: time.Second, ResumeWindow: 100 * time.Millisecond}
	attentive, narrow := quick, quick
	attentive.KeepAlive = time.Second
	narrow.OutboxBytes = 16 << 10 // so that it is soon full
	for _, attack := range []struct {
		name    string
		config  hub.Config
		do      func(*siege)
		n       int
		reasons []hub.Reason
	}{
		{"silence instead of a handshake", quick, besiegeInSilence, besiegers, []hub.Reason{hub.ReasonHandshake}},
		{"slow handshake", quick, besiegeWithSlowHandshakes, besiegers, []hub.Reason{hub.ReasonHandshake}},
		{"garbage instead of a handshake", quick, besiegeWithGarbage, besiegers, []hub.Reason{hub.ReasonHandshake}},
		{"foreign certificates", quick, besiegeWithForeignCertificates, 2 * besiegers, []hub.Reason{hub.ReasonHandshake}},
		{"slow header", quick, besiegeWithSlowHeaders, besiegers, []hub.Reason{hub.ReasonHandshake}},
		{"slow body", quick, besiegeWithSlowBodies, besiegers, []hub.Reason{hub.ReasonFrameTimeout}},
		{"slow read", quick, besiegeWithSlowReads, besiegers, []hub.Reason{hub.ReasonStalled, hub.ReasonSlow}},
		{"flood of connects", quick, besiegeWithConnects, 10 * besiegers, []hub.Reason{hub.ReasonHandshake, hub.ReasonLost, hub.ReasonLeft}},
		{"flood of pings", narrow, besiegeWithPings, besiegers, []hub.Reason{hub.ReasonStalled, hub.ReasonLost}},
		{"half-open links", attentive, besiegeWithHalfOpenLinks, besiegers, []hub.Reason{hub.ReasonTimeout}},
		{"resets", quick, besiegeWithResets, besiegers, []hub.Reason{hub.ReasonHandshake, hub.ReasonLost}},
		{"wrong tokens", quick, besiegeWithTokens, 8, []hub.Reason{hub.ReasonRefused}},
		{"replayed secrets", quick, besiegeWithSecrets, 6, []hub.Reason{hub.ReasonTakenOver, hub.ReasonLeft}},
		{"renegotiation", quick, besiegeWithRenegotiation, besiegers, []hub.Reason{hub.ReasonLost}},
		{"damaged records", quick, besiegeWithDamage, besiegers, []hub.Reason{hub.ReasonLost}},
		{"oversize before admission", quick, besiegeOversizeOutside, 3, []hub.Reason{hub.ReasonTooLong, hub.ReasonRefused, hub.ReasonMalformed}},
		{"oversize after admission", quick, besiegeOversizeInside, 5, []hub.Reason{hub.ReasonTooLong, hub.ReasonMalformed, hub.ReasonLeft}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			s := besiege(t, attack.config)
			attack.do(s)
			s.repelled(attack.n, attack.reasons...)
		})
	}
}

func besiegeInSilence(s *siege) {
	for range besiegers {
		s.silent(s.t)
	}
}

func besiegeWithSlowHandshakes(s *siege) {
	var slow []*peer
	for range besiegers {
		slow = append(slow, s.silent(s.t))
	}
	hello := clientHello(s.t, s.trust)
	s.drip(func(int) []byte { return hello }, slow...)
}

func besiegeWithGarbage(s *siege) {
	kinds := [][]byte{
		pattern(100_000, 1),
		[]byte("GET / HTTP/1.1\r\nHost: hub\r\n\r\n"),
		wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: s.token(tokens.Claims{Subject: "plain"})}),
		append(clientHello(s.t, s.trust)[:60], make([]byte, 1000)...),
		{22, 3, 1, 0xff, 0xff}, // a record that is longer than records are
	}
	for i := range besiegers {
		_, _ = s.silent(s.t).Write(kinds[i%len(kinds)]) // fails if the hub is fast
	}
}

// besiegeWithForeignCertificates has clients of both versions of TLS who are vouched for by
// somebody else, or show nothing.
func besiegeWithForeignCertificates(s *siege) {
	foreign := testcerts.NewAuthority(s.t).Local().TLS(s.t)
	for i := range 2 * besiegers {
		config := s.trust.Clone()
		config.MaxVersion = tls.VersionTLS12 + uint16(i%2)
		config.Certificates = nil
		if i%4 < 2 { // even to one who asks for others
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil }
		}
		secure := tls.Client(s.silent(s.t).Conn, config)
		err := secure.Handshake()
		if err == nil { // in version 1.3 the client is told afterwards
			_, err = secure.Read(make([]byte, 1))
		}
		if err == nil || !strings.HasPrefix(err.Error(), "remote error: tls: ") {
			s.t.Errorf("in version %#x: %v", config.MaxVersion, err)
		}
	}
}

func besiegeWithSlowHeaders(s *siege) {
	var slow []*peer
	for range besiegers {
		slow = append(slow, s.stranger())
	}
	hello := wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: s.token(tokens.Claims{Subject: "slow"})})
	s.drip(func(int) []byte { return hello }, slow...)
}

func besiegeWithSlowBodies(s *siege) {
	var slow []*peer
	for range besiegers {
		slow = append(slow, s.insider().peer)
	}
	s.drip(func(i int) []byte { return wire.AppendSend(nil, 1, 0, 0, []uint64{slow[i].id}, make([]byte, 60_000)) }, slow...)
}

// besiegeWithSlowReads has clients who send to themselves and read a byte now and then.
func besiegeWithSlowReads(s *siege) {
	for _, slow := range s.insiders() {
		background(s.t, func() error {
			for seq, err := uint64(1), error(nil); err == nil; seq++ { // until the hub ends it
				_, err = slow.Write(wire.AppendSend(nil, seq, 0, 0, []uint64{slow.id}, make([]byte, 60_000)))
				if err == nil && seq%4 == 0 {
					_, err = slow.Read(make([]byte, 1))
				}
			}
			return nil
		})
	}
}

func besiegeWithConnects(s *siege) {
	for i := range 10 * besiegers {
		if i%10 == 0 {
			s.stranger().Close()
		} else {
			s.silent(s.t).Close()
		}
	}
}

// besiegeWithPings lets them ask faster than they read.
func besiegeWithPings(s *siege) {
	pings := slices.Repeat(wire.AppendPing(nil, 1), 1000)
	for _, p := range s.insiders() {
		background(s.t, func() error {
			for {
				if _, err := p.Write(pings); err != nil { // the hub has ended it
					return nil
				}
			}
		})
	}
}

// besiegeWithHalfOpenLinks has clients who come in and vanish: no end is seen of them.
func besiegeWithHalfOpenLinks(s *siege) {
	s.insiders()
}

// besiegeWithResets breaks connections at each stage.
func besiegeWithResets(s *siege) {
	hello := clientHello(s.t, s.trust)
	for i := range besiegers {
		var p *peer
		switch i % 4 {
		case 0:
			p = s.silent(s.t)
			p.send(hello[:len(hello)/2])
		case 1:
			p = s.stranger()
		case 2:
			p = s.insider().peer
		case 3:
			g := s.insider()
			g.send(wire.AppendSend(nil, 1, 0, 0, []uint64{g.id}, make([]byte, 50_000))[:30_000])
			p = g.peer
		}
		p.reset()
	}
}

func besiegeWithTokens(s *siege) {
	stranger, _ := newSigner(s.t)
	forged, err := stranger.Sign(&tokens.Claims{Subject: "bystander", Until: time.Now().Add(time.Hour)}, tokens.Issuer{}, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	good := strings.Split(s.token(tokens.Claims{Subject: "bystander"}), ".")
	part := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	claims := part(fmt.Sprintf(`{"sub":"bystander","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	// A token of an HMAC whose secret is the hub's public key, which everybody may know.
	confused := part(`{"alg":"HS256"}`) + "." + claims
	mac := hmac.New(sha256.New, s.keys)
	mac.Write([]byte(confused))
	for _, token := range []string{
		"", "x", forged,
		s.token(tokens.Claims{Subject: "bystander", Until: time.Now().Add(-time.Minute)}),
		good[0] + "." + claims + "." + good[2],
		part(`{"alg":"none"}`) + "." + claims + ".",
		confused + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)),
		strings.Join(good[:2], ".") + ".",
	} {
		s.turnedAway(token)
	}
}

// besiegeWithSecrets replays what brings a client back: as somebody else, and after another
// connection has taken its id over.
func besiegeWithSecrets(s *siege) {
	as := func(subject string, id uint64) string { return s.token(tokens.Claims{Subject: subject, ID: id}) }
	come := func(token string, resume *guest) *guest {
		h := wire.Hello{Version: wire.Version2, Token: token}
		if resume != nil {
			h.ID, h.Resume, h.Received = resume.ID, resume.Resume, resume.had
		}
		return greet(s.stranger(), h)
	}
	alice := come(as("alice", 5), nil)
	mallory := come(as("mallory", 0), alice)
	if mallory.Resumed || mallory.ID == 5 {
		s.t.Errorf("mallory goes on as alice: %+v", mallory.Welcome)
	}
	alice.delivered(5, alice.tell([]byte("still here"), 0, 0, 5), []byte("still here"))
	newer := come(as("alice", 5), nil)
	alice.sentAway(wire.GoAwayTakenOver)
	older := come(as("alice", 5), alice) // may come in, and has the id, but nothing of the one before
	newer.sentAway(wire.GoAwayTakenOver)
	if older.Resumed || older.Resume == alice.Resume || older.Resume == newer.Resume {
		s.t.Errorf("a secret that is over is good: %+v", older.Welcome)
	}
	bob := come(as("bob", 6), older)
	if bob.Resumed || bob.ID != 6 {
		s.t.Errorf("bob goes on as alice: %+v", bob.Welcome)
	}
	older.send(wire.AppendBye(nil))
	older.closed()
	if late := come(as("alice", 5), older); late.Resumed {
		s.t.Error("who has left for good goes on")
	} else {
		late.send(wire.AppendBye(nil))
	}
	mallory.send(wire.AppendBye(nil))
	bob.send(wire.AppendBye(nil))
}

// besiegeWithDamage changes records of TLS on their way.
func besiegeWithDamage(s *siege) {
	for i := range besiegers {
		g := s.insider()
		record := append([]byte{23, 3, 3, 0, 100}, make([]byte, 100)...)
		if i%2 == 0 {
			record[0] = 99 // of no kind that there is
		}
		if _, err := g.tcp().Write(record); err != nil {
			s.t.Fatal(err)
		}
		if _, err := g.rest(); err != nil {
			s.t.Errorf("the hub goes on listening: %v", err)
		}
	}
}

func besiegeOversizeOutside(s *siege) {
	large := s.stranger()
	large.send([]byte{0, 0, 0x40, 2, byte(wire.TypeHello)}) // a byte more than a HELLO may have
	large.closed()
	s.turnedAway(strings.Repeat("x", 15<<10))
	nested := s.stranger()
	nested.send(frameOf(wire.TypeHello, strings.Repeat("[", 16<<10)))
	(&guest{peer: nested}).sentAway(wire.GoAwayProtocol)
}

func besiegeOversizeInside(s *siege) {
	giant := s.insider()
	giant.send([]byte{0xff, 0xff, 0xff, 0xff, byte(wire.TypeSend)})
	_, _ = giant.rest()
	body := s.insider()
	body.tell(make([]byte, wire.DefaultMaxBody+1), 0, 0, body.id)
	if kind, payload := body.read(); kind != wire.TypeError {
		s.t.Errorf("a body that is too large: type %#x, %q", kind, payload)
	}
	receivers := s.insider()
	more := wire.AppendSend(nil, 1, 0, 0, make([]uint64, 254), nil)
	more[wire.HeaderSize+16] = 255
	receivers.send(more)
	receivers.sentAway(wire.GoAwayProtocol)
	page := s.insider()
	if ids := page.page(0, 1<<32-1); len(ids) < 3 {
		s.t.Errorf("a page without limit: %v", ids)
	}
	again := s.insider()
	again.send(frameOf(wire.TypeHello, `{"name":"`+strings.Repeat("n", 1<<20)+`"}`))
	if kind, payload := again.read(); kind != wire.TypeError {
		s.t.Errorf("a second, large HELLO: type %#x, %q", kind, payload)
	}
	for _, g := range []*guest{body, page, again} {
		g.send(wire.AppendBye(nil))
	}
}

// frameOf returns a frame with any payload.
func frameOf(kind wire.Type, payload string) []byte {
	n := 1 + len(payload)
	return append([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), byte(kind)}, payload...)
}
