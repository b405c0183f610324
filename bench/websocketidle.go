package main

import (
	"context"
	"fmt"
	"net"

	"github.com/sechlol/go-message-hub/bench/webclient"
	"github.com/sechlol/go-message-hub/wire"
)

// The headings of the columns and the ratio of the idle-websocket scenario.
const (
	webIdleHeading      = "resident KiB per connection"
	webIdleInUseHeading = "KiB in use per connection"
	webIdleMoreHeading  = "KiB in use more than over TCP"
)

// The subjects of the idle-websocket scenario on the hub.
const (
	webIdleTCP = "hub, TCP"
	webIdleHub = "hub, WebSocket"
)

// maxWebIdleMoreKiB is the promised maximum of what a WebSocket has in use more than a TCP connection
// of version 2, in KiB.
const maxWebIdleMoreKiB = 0.4

// webIdleScenario measures the memory of idle WebSockets.
func webIdleScenario(n int) *scenario {
	inUse := func(m *measurement) float64 { return m.KiBInUse }
	s := &scenario{
		name:  "idle-websocket",
		title: fmt.Sprintf("%s idle WebSockets: growth of the server's memory", formatNumber(float64(n))),
		note: "Clients of the hub speak version 2: each sends `HELLO`, `ACK` after its `WELCOME`, and `PING` when all are connected. " +
			"In use are the heap and the stacks after two garbage collections. A client of nats-server has the reply to `CONNECT` and `PING`. " +
			"No client has a subscription. A client of the chat server has its first message.",
		columns: []column{
			{heading: webIdleHeading, value: func(m *measurement) float64 { return m.KiBPerConn }},
			{heading: webIdleInUseHeading, value: inUse},
		},
		ratios: []ratio{
			{heading: webIdleMoreHeading, base: webIdleTCP, rows: []string{webIdleHub}, value: func(tcp, ws *measurement) float64 { return inUse(ws) - inUse(tcp) }},
			{heading: "resident KiB ÷ hub's", base: webIdleHub, value: func(hub, other *measurement) float64 { return other.KiBPerConn / hub.KiBPerConn }},
		},
	}
	s.charts = []chart{{title: "Resident memory of an idle connection", unit: "KiB", bars: []series{{value: s.columns[0].value}}}}
	for _, v := range []struct {
		name, system string
		measure      func(ctx context.Context, p *programs, n int) (*measurement, error)
	}{
		{webIdleTCP, "hub", func(ctx context.Context, p *programs, n int) (*measurement, error) {
			return measureHubWebIdle(ctx, p, n, func(s *server) (net.Conn, error) {
				var dialer net.Dialer
				return dialer.DialContext(ctx, "tcp", s.addr)
			})
		}},
		{webIdleHub, "hub", func(ctx context.Context, p *programs, n int) (*measurement, error) {
			return measureHubWebIdle(ctx, p, n, func(s *server) (net.Conn, error) {
				return webclient.Dial(ctx, s.webAddr, wire.WebPath, wire.Subprotocol, 0)
			})
		}},
		{"nats, WebSocket", "nats", func(ctx context.Context, p *programs, n int) (*measurement, error) {
			return measurePeerWebIdle(ctx, p, "nats", n, greetNATS)
		}},
		{"chat, WebSocket", "chat", func(ctx context.Context, p *programs, n int) (*measurement, error) {
			return measurePeerWebIdle(ctx, p, "chat", n, greetChat)
		}},
	} {
		s.subjects = append(s.subjects, subject{v.name, []string{v.system}, func(ctx context.Context, p *programs) (*measurement, error) {
			return v.measure(ctx, p, n)
		}})
	}
	return s
}

// measureHubWebIdle measures v2 clients that connect by the function dial to a hub with a web address
// and an admin address. The hub sends no PING meanwhile.
func measureHubWebIdle(ctx context.Context, p *programs, n int, dial func(*server) (net.Conn, error)) (*measurement, error) {
	admin, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s, err := startHubWeb(ctx, p, "-admin="+admin, "-keepalive=1h")
	if err != nil {
		return nil, err
	}
	return measureAndStop(s, func(s *server) (*measurement, error) {
		before, err := readIdleMemory(ctx, s, admin)
		if err != nil {
			return nil, err
		}
		conns, err := openConnsWith(s, n, func() (net.Conn, error) { return dial(s) }, greetVersion2)
		defer closeAll(conns)
		if err != nil {
			return nil, err
		}
		if err := forEachConn(conns, pingVersion2); err != nil {
			return nil, err
		}
		after, err := readIdleMemory(ctx, s, admin)
		return &measurement{
			KiBPerConn: (after.resident - before.resident) / float64(n),
			KiBInUse:   (after.inUse - before.inUse) / float64(n),
		}, err
	})
}

// measurePeerWebIdle measures WebSockets of another system, on which greet makes the first exchange.
func measurePeerWebIdle(ctx context.Context, p *programs, system string, n int, greet func(net.Conn) error) (*measurement, error) {
	return withWebServer(ctx, p, system, func(s *server) (*measurement, error) {
		before, err := s.memoryMiB("VmRSS")
		if err != nil {
			return nil, err
		}
		conns, err := openConnsWith(s, n, func() (net.Conn, error) { return webclient.Dial(ctx, s.webAddr, "/", "", 0) }, greet)
		defer closeAll(conns)
		if err != nil {
			return nil, err
		}
		after, err := s.stableMemoryMiB(ctx)
		return &measurement{KiBPerConn: (after - before) * 1024 / float64(n)}, err
	})
}
