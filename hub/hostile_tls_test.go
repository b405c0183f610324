package hub_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
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

// attackers is the number of clients that attack at the same time. The attacks in bench/ use
// ten thousand.
const attackers = 20

// hostileEnv is a hub that requires client certificates and tokens, with two connected
// bystanders that have both.
type hostileEnv struct {
	*testHub
	t              testing.TB
	clientTLS      *tls.Config // TLS of a client with a valid certificate
	authority      *testcerts.Authority
	publicKeys     []byte // with which the hub verifies tokens
	signer         *tokens.Signer
	bystanders     *bystanders
	goroutines     func() int // of this test and its hub
	baseGoroutines int        // before the attack
}

// startHostile starts such a hub. The bystanders exchange messages until the end of the test. If
// web is set, all clients with valid certificates are WebSockets.
func startHostile(t testing.TB, config hub.Config, web bool) *hostileEnv {
	t.Helper()
	e := &hostileEnv{t: t, authority: testcerts.NewAuthority(t), goroutines: goroutineCounter(t)}
	e.signer, e.publicKeys = newSigner(t)
	keys, err := tokens.ParseKeys(e.publicKeys)
	if err != nil {
		t.Fatal(err)
	}
	config.Authenticate = func(req hub.AuthRequest) (*hub.Permissions, error) {
		c, err := keys.Verify(req.Token, tokens.Issuer{}, time.Now())
		if err != nil {
			return nil, err
		}
		return &hub.Permissions{Subject: c.Subject, ID: c.ID, Expires: c.Expires, CanSend: c.CanSend, NoList: c.NoList, NoWatch: c.NoWatch, MaxBody: c.MaxBody}, nil
	}
	server := &tls.Config{
		Certificates: []tls.Certificate{e.authority.IssueLocal().TLS(t)}, NextProtos: []string{wire.ALPN}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: e.authority.Pool(),
	}
	e.testHub = startOn(t, config, hub.NewTLSListener(listen(t), server))
	e.clientTLS = &tls.Config{
		RootCAs: e.authority.Pool(), ServerName: "localhost", NextProtos: []string{wire.ALPN}, Certificates: []tls.Certificate{e.authority.IssueLocal().TLS(t)},
	}
	if web {
		webTLS, webClientTLS := server.Clone(), e.clientTLS.Clone()
		webTLS.NextProtos, webClientTLS.NextProtos = []string{"http/1.1"}, []string{"http/1.1"}
		e.serveWebOn(t, hub.WebConfig{}, hub.NewTLSListener(listen(t), webTLS), webClientTLS)
	}
	e.credentials = client.Options{GetToken: func(context.Context) (string, error) { return e.signToken(tokens.Claims{Subject: "bystander"}), nil }}
	if !web {
		e.credentials.TLS = e.clientTLS
	}
	e.bystanders = e.startBystanders(t)
	e.bystanders.waitRounds(3)
	if e.baseGoroutines = e.goroutines(); e.baseGoroutines == 0 {
		t.Fatal("no goroutine is counted")
	}
	return e
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

// signToken signs claims. They are valid for an hour unless c.Expires is set.
func (e *hostileEnv) signToken(c tokens.Claims) string {
	e.t.Helper()
	if c.Expires.IsZero() {
		c.Expires = time.Now().Add(time.Hour)
	}
	token, err := e.signer.Sign(&c, tokens.Issuer{}, time.Now())
	if err != nil {
		e.t.Fatal(err)
	}
	return token
}

// connectTLS connects and completes the TLS handshake, with a valid client certificate unless
// modify changes the configuration, and the upgrade to a WebSocket if the hub has a web address. It
// sends nothing else.
func (e *hostileEnv) connectTLS(modify ...func(*tls.Config)) *clientV1 {
	e.t.Helper()
	if e.web != nil {
		return e.connectForV2(e.t)
	}
	c := e.connect(e.t)
	config := e.clientTLS.Clone()
	for _, apply := range modify {
		apply(config)
	}
	secure := tls.Client(c.Conn, config)
	if err := secure.Handshake(); err != nil {
		e.t.Fatal(err)
	}
	c.Conn = secure
	return c
}

// connectAuthenticated connects with a valid token.
func (e *hostileEnv) connectAuthenticated() *clientV2 {
	e.t.Helper()
	return handshakeV2(e.connectTLS(), wire.Hello{Version: wire.Version2, Token: e.signToken(tokens.Claims{Subject: "insider"})})
}

// connectAttackers connects the attackers with valid tokens, each with a small receive buffer.
func (e *hostileEnv) connectAttackers() (clients []*clientV2) {
	e.t.Helper()
	for range attackers {
		c := e.connectAuthenticated()
		c.shrinkReadBuffer()
		clients = append(clients, c)
	}
	return clients
}

// expectRefused sends a token that the hub must refuse for good.
func (e *hostileEnv) expectRefused(token string) {
	e.t.Helper()
	c := &clientV2{clientV1: e.connectTLS()}
	c.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: token}))
	if away := c.expectGoAway(wire.GoAwayRefused); away.Reconnect {
		e.t.Errorf("the token %.40q is refused by a GOAWAY that asks to reconnect", token)
	}
}

// sendSlowly sends one byte of payload(i) to to[i] every 20 ms, until every write fails or
// every payload was sent.
func (e *hostileEnv) sendSlowly(payload func(i int) []byte, to ...*clientV1) {
	e.t.Helper()
	background(e.t, func() error {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n, open := 0, true; open; n++ {
			<-tick.C
			open = false
			for i, c := range to {
				if b := payload(i); n < len(b) {
					_, err := c.Write(b[n : n+1])
					open = open || err == nil
				}
			}
		}
		return nil
	})
}

// expectAllGone checks the state after an attack by n clients. The hub has disconnected them
// for these reasons and no others, the bystanders go on, and after the bystanders leave no
// memory is in use.
func (e *hostileEnv) expectAllGone(n int, reasons ...hub.CloseReason) {
	e.t.Helper()
	eventually(e.t, "the attackers are disconnected", func() bool {
		var closed uint64
		for _, r := range reasons {
			closed += e.Stats().Disconnected[r]
		}
		return closed >= uint64(n)
	})
	for r, n := range e.Stats().Disconnected {
		if !slices.Contains(reasons, r) {
			e.t.Errorf("%d × %q", n, r)
		}
	}
	e.bystanders.waitRounds(3)
	eventually(e.t, "only the bystanders are connected", func() bool { return e.Stats().Clients == 2 })
	if c := e.Stats().Connected; c != uint64(n)+2 {
		e.t.Errorf("%d clients have connected, want %d and the bystanders", c, n)
	}
	eventually(e.t, "their goroutines have ended", func() bool { return e.goroutines() <= e.baseGoroutines })
	e.bystanders.end()
	for _, c := range []*client.Client{e.bystanders.sender, e.bystanders.echoer} {
		if err := c.Close(); err != nil {
			e.t.Errorf("closing a bystander: %v", err)
		}
	}
	eventually(e.t, "the memory is free", func() bool { s := e.Stats(); return s.Clients == 0 && s.QueuedBytes == 0 })
}

// tlsAttack is an attack against a hub with TLS, tokens and timeouts.
type tlsAttack struct {
	name    string
	config  hub.Config
	do      func(*hostileEnv)
	n       int               // clients
	reasons []hub.CloseReason // for which the hub disconnects them
	web     bool              // WebSockets can attack in the same way: the attack is above TLS
}

func tlsAttacks() []tlsAttack {
	quick := hub.Config{HandshakeTimeout: 2 * time.Second, FrameTimeout: 3 * time.Second, StallTimeout: time.Second, ResumeWindow: 100 * time.Millisecond}
	withKeepAlive, smallOutbox := quick, quick
	withKeepAlive.KeepAlive = time.Second
	smallOutbox.OutboxBytes = 16 << 10 // a queue that few messages fill
	return []tlsAttack{
		{"silence instead of a handshake", quick, attackSilence, attackers, []hub.CloseReason{hub.CloseHandshake}, false},
		{"slow handshake", quick, attackSlowHandshake, attackers, []hub.CloseReason{hub.CloseHandshake}, false},
		{"garbage instead of a handshake", quick, attackGarbage, attackers, []hub.CloseReason{hub.CloseHandshake}, false},
		{"foreign certificates", quick, attackForeignCertificates, 2 * attackers, []hub.CloseReason{hub.CloseHandshake}, false},
		{"slow header", quick, attackSlowHeader, attackers, []hub.CloseReason{hub.CloseHandshake}, true},
		{"slow body", quick, attackSlowBody, attackers, []hub.CloseReason{hub.CloseFrameTimeout}, true},
		{"slow read", quick, attackSlowRead, attackers, []hub.CloseReason{hub.CloseStalled, hub.CloseSlow}, true},
		{"flood of connects", quick, attackConnectFlood, 10 * attackers, []hub.CloseReason{hub.CloseHandshake, hub.CloseLost, hub.CloseLeft}, false},
		{"flood of pings", smallOutbox, attackPingFlood, attackers, []hub.CloseReason{hub.CloseStalled, hub.CloseLost}, true},
		{"half-open connections", withKeepAlive, attackHalfOpenConns, attackers, []hub.CloseReason{hub.CloseTimeout}, true},
		{"resets", quick, attackResets, attackers, []hub.CloseReason{hub.CloseHandshake, hub.CloseLost}, false},
		{"wrong tokens", quick, attackInvalidTokens, 8, []hub.CloseReason{hub.CloseRefused}, true},
		{"replayed secrets", quick, attackReplayedSecrets, 6, []hub.CloseReason{hub.CloseTakenOver, hub.CloseLeft}, true},
		{"renegotiation", quick, attackRenegotiation, attackers, []hub.CloseReason{hub.CloseLost}, false},
		{"damaged records", quick, attackDamagedRecords, attackers, []hub.CloseReason{hub.CloseLost}, false},
		{"oversize before authentication", quick, attackOversizeUnauthenticated, 3, []hub.CloseReason{hub.CloseTooLong, hub.CloseRefused, hub.CloseMalformed}, true},
		{"oversize after authentication", quick, attackOversizeAuthenticated, 5, []hub.CloseReason{hub.CloseTooLong, hub.CloseMalformed, hub.CloseLeft}, true},
	}
}

// TestHub_HostileTLSClients_DisturbNobody runs each kind of attack against a hub of its own.
// Meanwhile two bystanders exchange messages and verify them.
func TestHub_HostileTLSClients_DisturbNobody(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, attack := range tlsAttacks() {
		t.Run(attack.name, func(t *testing.T) {
			t.Parallel()
			attack.run(t, false)
		})
	}
}

// TestHub_HostileSecureWebSockets_DisturbNobody is TestHub_HostileTLSClients_DisturbNobody for the
// attacks above TLS, by clients that are WebSockets.
func TestHub_HostileSecureWebSockets_DisturbNobody(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, attack := range tlsAttacks() {
		if attack.web {
			t.Run(attack.name, func(t *testing.T) {
				t.Parallel()
				attack.run(t, true)
			})
		}
	}
}

func (a *tlsAttack) run(t *testing.T, web bool) {
	e := startHostile(t, a.config, web)
	a.do(e)
	e.expectAllGone(a.n, a.reasons...)
}

func attackSilence(e *hostileEnv) {
	for range attackers {
		e.connect(e.t)
	}
}

func attackSlowHandshake(e *hostileEnv) {
	var clients []*clientV1
	for range attackers {
		clients = append(clients, e.connect(e.t))
	}
	hello := tlsClientHello(e.t, e.clientTLS)
	e.sendSlowly(func(int) []byte { return hello }, clients...)
}

func attackGarbage(e *hostileEnv) {
	kinds := [][]byte{
		pattern(100_000, 1),
		[]byte("GET / HTTP/1.1\r\nHost: hub\r\n\r\n"),
		wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: e.signToken(tokens.Claims{Subject: "plain"})}),
		append(tlsClientHello(e.t, e.clientTLS)[:60], make([]byte, 1000)...),
		{22, 3, 1, 0xff, 0xff}, // announces a record longer than TLS allows
	}
	for i := range attackers {
		// Write fails if the hub has already closed the connection.
		_, _ = e.connect(e.t).Write(kinds[i%len(kinds)])
	}
}

// attackForeignCertificates has clients of TLS 1.2 and TLS 1.3 that have a certificate of
// another authority, or none.
func attackForeignCertificates(e *hostileEnv) {
	foreign := testcerts.NewAuthority(e.t).IssueLocal().TLS(e.t)
	for i := range 2 * attackers {
		config := e.clientTLS.Clone()
		config.MaxVersion = tls.VersionTLS12 + uint16(i%2)
		config.Certificates = nil
		if i%4 < 2 { // even if the server asks for other authorities
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil }
		}
		secure := tls.Client(e.connect(e.t).Conn, config)
		err := secure.Handshake()
		if err == nil { // in TLS 1.3 the client learns of the refusal after the handshake
			_, err = secure.Read(make([]byte, 1))
		}
		if err == nil || !strings.HasPrefix(err.Error(), "remote error: tls: ") {
			e.t.Errorf("TLS version %#x: %v", config.MaxVersion, err)
		}
	}
}

func attackSlowHeader(e *hostileEnv) {
	var clients []*clientV1
	for range attackers {
		clients = append(clients, e.connectTLS())
	}
	hello := wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: e.signToken(tokens.Claims{Subject: "slow"})})
	e.sendSlowly(func(int) []byte { return hello }, clients...)
}

func attackSlowBody(e *hostileEnv) {
	var clients []*clientV1
	for range attackers {
		clients = append(clients, e.connectAuthenticated().clientV1)
	}
	e.sendSlowly(func(i int) []byte {
		return wire.AppendSend(nil, 1, 0, 0, []uint64{clients[i].id}, make([]byte, 60_000))
	}, clients...)
}

// attackSlowRead has clients that send to themselves and read one byte after every fourth
// message.
func attackSlowRead(e *hostileEnv) {
	for _, c := range e.connectAttackers() {
		background(e.t, func() error {
			// The loop ends when the hub disconnects the client.
			for seq, err := uint64(1), error(nil); err == nil; seq++ {
				_, err = c.Write(wire.AppendSend(nil, seq, 0, 0, []uint64{c.id}, make([]byte, 60_000)))
				if err == nil && seq%4 == 0 {
					_, err = c.Read(make([]byte, 1))
				}
			}
			return nil
		})
	}
}

func attackConnectFlood(e *hostileEnv) {
	for i := range 10 * attackers {
		if i%10 == 0 {
			e.connectTLS().Close()
		} else {
			e.connect(e.t).Close()
		}
	}
}

// attackPingFlood has clients send PINGs and read no reply.
func attackPingFlood(e *hostileEnv) {
	pings := slices.Repeat(wire.AppendPing(nil, 1), 1000)
	for _, p := range e.connectAttackers() {
		background(e.t, func() error {
			for {
				if _, err := p.Write(pings); err != nil { // the hub has disconnected the client
					return nil
				}
			}
		})
	}
}

// attackHalfOpenConns has authenticated clients that send nothing more and never close the
// connection.
func attackHalfOpenConns(e *hostileEnv) {
	e.connectAttackers()
}

// attackResets resets connections at each stage.
func attackResets(e *hostileEnv) {
	hello := tlsClientHello(e.t, e.clientTLS)
	for i := range attackers {
		var c *clientV1
		switch i % 4 {
		case 0:
			c = e.connect(e.t)
			c.send(hello[:len(hello)/2])
		case 1:
			c = e.connectTLS()
		case 2:
			c = e.connectAuthenticated().clientV1
		case 3:
			v2 := e.connectAuthenticated()
			v2.send(wire.AppendSend(nil, 1, 0, 0, []uint64{v2.id}, make([]byte, 50_000))[:30_000])
			c = v2.clientV1
		}
		c.reset()
	}
}

func attackInvalidTokens(e *hostileEnv) {
	foreignSigner, _ := newSigner(e.t)
	forged, err := foreignSigner.Sign(&tokens.Claims{Subject: "bystander", Expires: time.Now().Add(time.Hour)}, tokens.Issuer{}, time.Now())
	if err != nil {
		e.t.Fatal(err)
	}
	parts := strings.Split(e.signToken(tokens.Claims{Subject: "bystander"}), ".")
	encode := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	claims := encode(fmt.Sprintf(`{"sub":"bystander","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	// An HMAC token whose secret is the public key of the hub, which anyone can know.
	hmacToken := encode(`{"alg":"HS256"}`) + "." + claims
	mac := hmac.New(sha256.New, e.publicKeys)
	mac.Write([]byte(hmacToken))
	for _, token := range []string{
		"", "x", forged,
		e.signToken(tokens.Claims{Subject: "bystander", Expires: time.Now().Add(-time.Minute)}),
		parts[0] + "." + claims + "." + parts[2],
		encode(`{"alg":"none"}`) + "." + claims + ".",
		hmacToken + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)),
		strings.Join(parts[:2], ".") + ".",
	} {
		e.expectRefused(token)
	}
}

// attackReplayedSecrets replays resume secrets: as another subject, and after another
// connection has taken over the id.
func attackReplayedSecrets(e *hostileEnv) {
	tokenFor := func(subject string, id uint64) string { return e.signToken(tokens.Claims{Subject: subject, ID: id}) }
	connect := func(token string, resume *clientV2) *clientV2 {
		hello := wire.Hello{Version: wire.Version2, Token: token}
		if resume != nil {
			hello.ID, hello.Resume, hello.Received = resume.ID, resume.Resume, resume.received
		}
		return handshakeV2(e.connectTLS(), hello)
	}
	alice := connect(tokenFor("alice", 5), nil)
	mallory := connect(tokenFor("mallory", 0), alice)
	if mallory.Resumed || mallory.ID == 5 {
		e.t.Errorf("mallory resumes the session of alice: %+v", mallory.Welcome)
	}
	alice.expectDeliver(5, alice.sendMessage([]byte("still here"), 0, 0, 5), []byte("still here"))
	newer := connect(tokenFor("alice", 5), nil)
	alice.expectGoAway(wire.GoAwayTakenOver)
	// This token is valid and keeps the id, but resumes nothing.
	older := connect(tokenFor("alice", 5), alice)
	newer.expectGoAway(wire.GoAwayTakenOver)
	if older.Resumed || older.Resume == alice.Resume || older.Resume == newer.Resume {
		e.t.Errorf("a resume secret that is no longer valid was accepted: %+v", older.Welcome)
	}
	bob := connect(tokenFor("bob", 6), older)
	if bob.Resumed || bob.ID != 6 {
		e.t.Errorf("bob resumes the session of alice: %+v", bob.Welcome)
	}
	older.send(wire.AppendBye(nil))
	older.expectEOF()
	if late := connect(tokenFor("alice", 5), older); late.Resumed {
		e.t.Error("a session that ended with BYE was resumed")
	} else {
		late.send(wire.AppendBye(nil))
	}
	mallory.send(wire.AppendBye(nil))
	bob.send(wire.AppendBye(nil))
}

// attackDamagedRecords sends TLS records that do not decrypt or have an unknown type.
func attackDamagedRecords(e *hostileEnv) {
	for i := range attackers {
		c := e.connectAuthenticated()
		record := append([]byte{23, 3, 3, 0, 100}, make([]byte, 100)...)
		if i%2 == 0 {
			record[0] = 99 // an unknown record type
		}
		if _, err := c.tcpConn().Write(record); err != nil {
			e.t.Fatal(err)
		}
		if _, err := c.readToEnd(); err != nil {
			e.t.Errorf("the hub still reads: %v", err)
		}
	}
}

func attackOversizeUnauthenticated(e *hostileEnv) {
	large := e.connectTLS()
	large.send([]byte{0, 0, 0x40, 2, byte(wire.TypeHello)}) // one byte more than the limit of a HELLO
	if e.web != nil {
		(&clientV2{clientV1: large}).expectGoAway(wire.GoAwayProtocol)
	} else {
		large.expectEOF()
	}
	e.expectRefused(strings.Repeat("x", 15<<10))
	nested := e.connectTLS()
	nested.send(makeFrame(wire.TypeHello, strings.Repeat("[", 16<<10)))
	(&clientV2{clientV1: nested}).expectGoAway(wire.GoAwayProtocol)
}

func attackOversizeAuthenticated(e *hostileEnv) {
	giant := e.connectAuthenticated()
	giant.send([]byte{0xff, 0xff, 0xff, 0xff, byte(wire.TypeSend)})
	_, _ = giant.readToEnd()
	body := e.connectAuthenticated()
	body.sendMessage(make([]byte, wire.DefaultMaxBody+1), 0, 0, body.id)
	if kind, payload := body.nextFrame(); kind != wire.TypeError {
		e.t.Errorf("reply to a body that is too large: type %#x, %q", kind, payload)
	}
	receivers := e.connectAuthenticated()
	malformed := wire.AppendSend(nil, 1, 0, 0, make([]uint64, 254), nil)
	malformed[wire.HeaderSize+16] = 255
	receivers.send(malformed)
	receivers.expectGoAway(wire.GoAwayProtocol)
	page := e.connectAuthenticated()
	if ids := page.requestPage(0, 1<<32-1); len(ids) < 3 {
		e.t.Errorf("a page without a limit: %v", ids)
	}
	again := e.connectAuthenticated()
	again.send(makeFrame(wire.TypeHello, `{"name":"`+strings.Repeat("n", 1<<20)+`"}`))
	if kind, payload := again.nextFrame(); kind != wire.TypeError {
		e.t.Errorf("reply to a second, large HELLO: type %#x, %q", kind, payload)
	}
	for _, c := range []*clientV2{body, page, again} {
		c.send(wire.AppendBye(nil))
	}
}

// makeFrame returns a frame with this type and payload.
func makeFrame(kind wire.Type, payload string) []byte {
	n := 1 + len(payload)
	return append([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), byte(kind)}, payload...)
}
