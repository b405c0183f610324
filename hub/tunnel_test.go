package hub_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net/http"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/wire"
)

// startTunnelCluster starts n hubs whose clients of version 2 connect over tr.
func startTunnelCluster(t *testing.T, tr testTransport, n int, config hub.Config) *testCluster {
	t.Helper()
	tc := startCluster(t, n, config)
	for _, h := range tc.hubs {
		tr.serveWeb(t, h, hub.WebConfig{})
	}
	return tc
}

// onTunnelTransports runs a test over TCP and WebSockets.
func onTunnelTransports(t *testing.T, test func(t *testing.T, tr testTransport)) {
	t.Helper()
	for _, tr := range []testTransport{overTCP, overWebSocket, overSecureWebSocket} {
		tr.test(t, test)
	}
}

func TestTunnel_ResumeGoesOn(t *testing.T) {
	onTunnelTransports(t, func(t *testing.T, tr testTransport) {
		tc := startTunnelCluster(t, tr, 3, hub.Config{})
		sender, receiver := tc.hubs[0].connectV2(t), tc.hubs[1].connectV2(t)
		tc.waitKnown(t, 2)
		sizes := []int{0, 1, 1000, 100_000, 1 << 20}
		for round := range 6 {
			first := sender.seq + 1
			for i, size := range sizes { // the receiver is away
				sender.sendMessage(pattern(size, byte(i)), levelOptions(wire.LevelReceived), 0, receiver.ID)
			}
			receiver.Close()
			receiver = tc.hubs[round%3].resume(t, receiver)
			if !receiver.Resumed {
				t.Fatalf("round %d: not resumed", round)
			}
			for i, size := range sizes {
				receiver.expectDeliver(sender.ID, first+uint64(i), pattern(size, byte(i)))
				sender.expectReport(first+uint64(i), wire.FateReceived)
			}
			for i, size := range sizes {
				seq := receiver.sendMessage(pattern(size, byte(i)), levelOptions(wire.LevelReceived), 0, sender.ID)
				sender.expectDeliver(receiver.ID, seq, pattern(size, byte(i)))
				receiver.expectReport(seq, wire.FateReceived)
			}
		}
	})
}

// TestTunnel_FlakyConns_LoseNothing has each client lose its connection again and again, and resume
// at random hubs.
func TestTunnel_FlakyConns_LoseNothing(t *testing.T) {
	onTunnelTransports(t, func(t *testing.T, tr testTransport) {
		tc := startTunnelCluster(t, tr, 3, hub.Config{ResumeWindow: time.Hour})
		runFlakyClientsAt(t, tc.hubs, 6, 100, 10, mostlySmallSize)
	})
}

// nodeOf returns the number of the hub that has assigned an id.
func nodeOf(id uint64) int { return int(id >> 41 & (1<<22 - 1)) }

// TestTunnel_Refused resumes at another hub what cannot be resumed. The client gets a new session
// of that hub, and the session that it named stays as it is.
func TestTunnel_Refused(t *testing.T) {
	tc := startCluster(t, 2, hub.Config{Authenticate: tokenAuthenticator(map[string]*hub.Permissions{
		"a": {Subject: "a"}, "b": {Subject: "b"}, "granted": {Subject: "granted", ID: 5},
	})})
	near, far := tc.hubs[0], tc.hubs[1]
	owner := far.connectToken(t, "a")
	granted := far.connectToken(t, "granted")
	near.connectToken(t, "b") // its messages would find both
	tc.waitKnown(t, 3)
	for name, hello := range map[string]wire.Hello{
		"wrong secret":         {Token: "a", ID: owner.ID, Resume: "x" + owner.Resume[1:]},
		"wrong subject":        {Token: "b", ID: owner.ID, Resume: owner.Resume},
		"no client":            {Token: "a", ID: owner.ID + 1, Resume: owner.Resume},
		"no hub":               {Token: "a", ID: owner.ID + 1<<45, Resume: owner.Resume},
		"id of another client": {Token: "b", ID: granted.ID, Resume: granted.Resume},
	} {
		t.Run(name, func(t *testing.T) {
			hello.Version = wire.Version2
			c := near.connectHello(t, hello)
			if c.Resumed || nodeOf(c.ID) != 1 {
				t.Errorf("resumed: %v, id %#x", c.Resumed, c.ID)
			}
			c.fenceV2()
		})
	}
	rejected := near.connectForV2(t)
	rejected.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: "nobody", ID: owner.ID, Resume: owner.Resume}))
	(&clientV2{clientV1: rejected}).expectGoAway(wire.GoAwayRefused)
	owner.fenceV2()
	granted.fenceV2()
	back := near.connectHelloRetry(t, wire.Hello{Version: wire.Version2, Token: "granted", ID: granted.ID, Resume: granted.Resume})
	if !back.Resumed || back.ID != 5 {
		t.Errorf("resumed: %v, id %d", back.Resumed, back.ID)
	}
	back.fenceV2()
	granted.expectGoAway(wire.GoAwayTakenOver)
}

// TestTunnel_AuthenticatesWithTheFactsOfTheClient resumes over a WebSocket of a web page, over TLS.
func TestTunnel_AuthenticatesWithTheFactsOfTheClient(t *testing.T) {
	requests := make(chan hub.AuthRequest, 4)
	tc := startCluster(t, 2, hub.Config{Authenticate: func(r hub.AuthRequest) (*hub.Permissions, error) {
		requests <- r
		return &hub.Permissions{Subject: "a"}, nil
	}})
	config := hub.WebConfig{AllowedOrigins: []string{"https://example.com"}, TokenCookie: "token"}
	for _, h := range tc.hubs {
		h.serveWeb(t, config, true)
	}
	header := http.Header{"Origin": {"https://example.com"}, "Cookie": {"token=sesame"}}
	dial := func(h *testHub) *clientV1 {
		nc, err := h.web.dialWebSocket(header)
		if err != nil {
			t.Fatal(err)
		}
		return newClientV1(t, nc)
	}
	first := handshakeV2(dial(tc.hubs[0]), wire.Hello{Version: wire.Version2})
	<-requests
	c := dial(tc.hubs[1])
	back := first.reconnect(c, wire.Hello{Version: wire.Version2})
	r := <-requests
	if r.Address.String() != c.LocalAddr().String() || r.Origin != "https://example.com" || r.Token != "sesame" || r.TLS == nil || r.TLS.Version != tls.VersionTLS13 {
		t.Errorf("request %+v, of a client at %v", r, c.LocalAddr())
	}
	if info := tc.hubs[0].clientInfo(t, back.ID); info.Address.String() != c.LocalAddr().String() {
		t.Errorf("the client is at %v, and listed at %v", c.LocalAddr(), info.Address)
	}
}

// TestTunnel_ClientWithCertificate resumes only at the hub of its session: no other hub could show
// its certificate there.
func TestTunnel_ClientWithCertificate(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	pair := authority.IssueLocal().TLS(t)
	serverTLS := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool()}
	clientTLS := &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{pair}}
	tc := startCluster(t, 2, hub.Config{})
	var addrs []string
	for _, h := range tc.hubs {
		ln := hub.NewTLSListener(listen(t), serverTLS)
		addrs = append(addrs, ln.Addr().String())
		served := make(chan error, 1)
		go func() { served <- h.Serve(context.WithoutCancel(t.Context()), ln) }() // ends with Shutdown
	}
	dial := func(i int) *clientV1 {
		nc, err := tls.Dial("tcp", addrs[i], clientTLS)
		if err != nil {
			t.Fatal(err)
		}
		return newClientV1(t, nc)
	}
	first := handshakeV2(dial(0), wire.Hello{Version: wire.Version2})
	hello := wire.Hello{Version: wire.Version2, ID: first.ID, Resume: first.Resume}
	if c := handshakeV2(dial(1), hello); c.Resumed {
		t.Error("resumed at another hub")
	}
	if c := first.reconnect(dial(0), hello); !c.Resumed {
		t.Error("not resumed at its own hub")
	}
}

// TestTunnel_HubOfTheClientEnds shuts the hub down to which the client is connected.
func TestTunnel_HubOfTheClientEnds(t *testing.T) {
	for name, end := range map[string]func(h *testHub) error{
		"shutdown": func(h *testHub) error { return h.Shutdown(t.Context()) },
		"drain":    func(h *testHub) error { return h.SendGoAway(t.Context(), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			tc := startCluster(t, 3, hub.Config{})
			sender, c := tc.hubs[0].connectV2(t), tc.hubs[0].connectV2(t)
			c = tc.hubs[1].resume(t, c)
			errs := make(chan error, 1)
			go func() { errs <- end(tc.hubs[1]) }() // ends with the hub
			c.expectGoAway(wire.GoAwayShutdown)
			seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, c.ID)
			c = tc.hubs[2].resume(t, c)
			c.expectDeliver(sender.ID, seq, []byte("x"))
			sender.expectReport(seq, wire.FateReceived)
			if err := <-errs; !c.Resumed || err != nil {
				t.Errorf("resumed: %v, the hub has ended with %v", c.Resumed, err)
			}
		})
	}
}

// TestTunnel_HubOfTheSessionEnds shuts the hub down that has the session.
func TestTunnel_HubOfTheSessionEnds(t *testing.T) {
	tc := startCluster(t, 2, hub.Config{})
	sender, c := tc.hubs[1].connectV2(t), tc.hubs[0].connectV2(t)
	c = tc.hubs[1].resume(t, c)
	tc.waitKnown(t, 2)
	seq := sender.sendMessage(pattern(500_000, 1), levelOptions(wire.LevelWritten), 0, c.ID)
	sender.expectReport(seq, wire.FateWritten)
	errs := make(chan error, 1)
	go func() { errs <- tc.hubs[0].Shutdown(t.Context()) }() // ends with the hub
	c.expectDeliver(sender.ID, seq, pattern(500_000, 1))
	c.expectGoAway(wire.GoAwayShutdown)
	if err := <-errs; err != nil {
		t.Error(err)
	}
}

// TestTunnel_Partition cuts the hubs off from each other. The client is disconnected, and resumes
// when they are together again.
func TestTunnel_Partition(t *testing.T) {
	tc := startCluster(t, 2, hub.Config{})
	sender, c := tc.hubs[0].connectV2(t), tc.hubs[0].connectV2(t)
	c = tc.hubs[1].resume(t, c)
	c.fenceV2()
	tc.bus.Cut(1, 2)
	c.expectEOF()
	seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, c.ID)
	tc.bus.Heal(1, 2)
	tc.waitComplete(t)
	c = tc.hubs[1].resume(t, c)
	if !c.Resumed {
		t.Fatal("not resumed")
	}
	c.expectDeliver(sender.ID, seq, []byte("x"))
	sender.expectReport(seq, wire.FateReceived)
}

// TestTunnel_SlowClient_DelaysNobodyElse has a client that does not read behind a tunnel, and
// bystanders on the same hubs, one of them behind a tunnel as well.
func TestTunnel_SlowClient_DelaysNobodyElse(t *testing.T) {
	tc := startCluster(t, 2, hub.Config{OutboxBytes: 64 << 10})
	slow, echo := tc.hubs[0].connectV2(t), tc.hubs[0].connectV2(t)
	slow, echo = tc.hubs[1].resume(t, slow), tc.hubs[1].resume(t, echo)
	slow.withholdsAcks = true
	sender, bystander := tc.hubs[0].connectV2(t), tc.hubs[1].connectV2(t)
	tc.waitKnown(t, 4)
	background(t, func() error {
		frame := wire.AppendSend(nil, 1, levelOptions(wire.LevelNone), 0, []uint64{slow.ID}, pattern(100_000, 1))
		for seq := uint64(1); seq <= 200; seq++ {
			binary.BigEndian.PutUint64(frame[wire.HeaderSize:], seq)
			if _, err := sender.Write(frame); err != nil {
				return nil // the test ends
			}
		}
		return nil
	})
	for n := range 100 {
		seq := bystander.sendMessage(pattern(1000*n, 1), levelOptions(wire.LevelReceived), 0, echo.ID)
		echo.expectDeliver(bystander.ID, seq, pattern(1000*n, 1))
		bystander.expectReport(seq, wire.FateReceived)
	}
	sender.Close()
	slow.Close()
}

func TestTunnel_Bye(t *testing.T) {
	onTunnelTransports(t, func(t *testing.T, tr testTransport) {
		tc := startTunnelCluster(t, tr, 2, hub.Config{})
		c := tc.hubs[0].connectV2(t)
		c = tc.hubs[1].resume(t, c)
		c.fenceV2()
		c.send(wire.AppendBye(nil))
		c.expectEOF()
		tc.hubs[0].waitDisconnected(t, hub.CloseLeft, 1)
		tc.waitKnown(t, 0)
	})
}

// TestTunnel_KeepAlive has a client that answers the PINGs of the hub of its session, and then one
// that does not.
func TestTunnel_KeepAlive(t *testing.T) {
	tc := startCluster(t, 2, hub.Config{KeepAlive: 100 * time.Millisecond, ResumeWindow: 10 * time.Second})
	c := tc.hubs[0].connectV2(t)
	c = tc.hubs[1].resume(t, c)
	c.mustReadFrame() // the ACK behind WELCOME
	for range 5 {
		kind, payload := c.mustReadFrame()
		n, err := wire.ParseUint64(payload)
		if kind != wire.TypePing || err != nil {
			t.Fatalf("frame of type %#x: %v", kind, err)
		}
		c.send(wire.AppendPong(nil, n))
	}
	for {
		if _, _, err := c.readFrame(); err != nil { // PINGs, and then the end
			break
		}
	}
	eventually(t, "the session is detached", func() bool { return tc.hubs[0].clientInfo(t, c.ID).Detached })
	if c = tc.hubs[1].resume(t, c); !c.Resumed {
		t.Error("not resumed")
	}
}

// TestTunnel_LimitsOfTheHubOfTheClient has a hub with room for one client, which it gives to no
// other for a tunnel.
func TestTunnel_LimitsOfTheHubOfTheClient(t *testing.T) {
	tc := startCluster(t, 2, hub.Config{DisableV1: true})
	full := tc.hubs[1]
	local, c := full.connectV2(t), tc.hubs[0].connectV2(t)
	if err := full.SetMaxClients(1); err != nil {
		t.Fatal(err)
	}
	rejected := full.connectForV2(t)
	rejected.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, ID: c.ID, Resume: c.Resume}))
	(&clientV2{clientV1: rejected}).expectGoAway(wire.GoAwayBusy)
	local.fenceV2()
	c.fenceV2()
}
