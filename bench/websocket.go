package main

import (
	"context"
	"fmt"
	"strconv"
)

// webSocketHeading is the heading of the ratio that has bars.
const webSocketHeading = "hub, CPU ÷ CPU over TCP"

// webSocketWorkload is messages to a number of receivers each: from one client to all others, or from
// each of clients to others chosen at random.
type webSocketWorkload struct {
	clients         int // 0: one client sends
	receivers, size int
	messages        int // of each sender

	// maxRatio is the promised maximum of the processor time of the hub for a delivery over
	// WebSocket, in relation to that over TCP.
	maxRatio float64
}

// webSocketWorkloads each take most of a second of the processor time of the hub, which /proc counts
// in hundredths of a second.
var webSocketWorkloads = []webSocketWorkload{
	{receivers: 10, size: 128, messages: 1_500_000, maxRatio: 1.35},
	{clients: 100, receivers: 10, size: 128, messages: 12_000, maxRatio: 1.35},
	{receivers: 1, size: 128, messages: 3_000_000, maxRatio: 1.35},
	{receivers: 10, size: 10_240, messages: 20_000, maxRatio: 1.35},
	{receivers: 1, size: 10_240, messages: 80_000, maxRatio: 1.35},
	{receivers: 10, size: 1_024_000, messages: 250, maxRatio: 1.2},
	{receivers: 1, size: 1_024_000, messages: 1300, maxRatio: 1.2},
}

// webSocketVariant is which clients connect by WebSocket.
type webSocketVariant struct{ name, system string } // system is that of the load program

// variants returns the variants of a workload. The first one is over TCP.
func (wl webSocketWorkload) variants() []webSocketVariant {
	overTCP, receivers, all := webSocketVariant{"TCP", "hub-frames"},
		webSocketVariant{"receivers over WebSocket", "hub-frames-receivers"},
		webSocketVariant{"all over WebSocket", "hub-frames-ws"}
	if wl.clients > 0 {
		return []webSocketVariant{overTCP, all} // all receive
	}
	return []webSocketVariant{overTCP, receivers, all}
}

// subject returns the name of a variant as a subject.
func (wl webSocketWorkload) subject(v webSocketVariant) string {
	pattern := "1 receiver"
	if wl.clients > 0 {
		pattern = fmt.Sprintf("%d senders, %d receivers of each message", wl.clients, wl.receivers)
	} else if wl.receivers > 1 {
		pattern = fmt.Sprint(wl.receivers, " receivers")
	}
	return fmt.Sprintf("%s bytes, %s, %s", formatNumber(float64(wl.size)), pattern, v.name)
}

// loadFlags returns the flags of the load program.
func (wl webSocketWorkload) loadFlags() []string {
	clients, senders, random := wl.receivers+1, 1, 0
	if wl.clients > 0 {
		clients, senders, random = wl.clients, wl.clients, wl.receivers
	}
	return []string{
		"-clients=" + strconv.Itoa(clients), "-senders=" + strconv.Itoa(senders), "-to=" + strconv.Itoa(random),
		"-messages=" + strconv.Itoa(wl.messages), "-size=" + strconv.Itoa(wl.size),
	}
}

// webSocketScenario measures the processor time of the hub for deliveries over WebSocket.
func webSocketScenario(name string, workloads []webSocketWorkload) *scenario {
	perDelivery := func(m *measurement) float64 { return m.MovingCPU / float64(m.Deliveries) }
	s := &scenario{
		name:  name,
		title: "processor time of the hub per delivery, over TCP and over WebSocket",
		note: "All clients speak version 2, by plain frames over TCP or WebSocket. They do the same work besides the WebSocket frames. " +
			"The processor time is that of the hub alone, user and system, while messages move. It includes reading what the sender sends.",
		columns: []column{
			{heading: "hub, CPU ns per delivery", value: func(m *measurement) float64 { return perDelivery(m) * 1e9 }},
			{heading: "hub, CPU s", value: func(m *measurement) float64 { return m.MovingCPU }},
		},
	}
	for _, wl := range workloads {
		variants := wl.variants()
		base := wl.subject(variants[0])
		r := ratio{heading: webSocketHeading, base: base, value: func(base, other *measurement) float64 { return perDelivery(other) / perDelivery(base) }}
		for _, v := range variants {
			s.subjects = append(s.subjects, subject{wl.subject(v), []string{"hub"}, func(ctx context.Context, p *programs) (*measurement, error) {
				return measureMovingCPU(ctx, p, v.system, wl)
			}})
			if name := wl.subject(v); name != base {
				r.rows = append(r.rows, name)
			}
		}
		s.ratios = append(s.ratios, r)
	}
	return s
}

// measureMovingCPU runs a workload once and measures the processor time of the hub while messages move.
func measureMovingCPU(ctx context.Context, p *programs, loadSystem string, wl webSocketWorkload) (*measurement, error) {
	return withWebServer(ctx, p, "hub", func(s *server) (*measurement, error) {
		l, err := startWebLoad(ctx, p, s, loadSystem, wl.loadFlags()...)
		if err != nil {
			return nil, err
		}
		var before float64
		_, m, err := l.during(func() (*measurement, error) {
			before, err = s.cpuSeconds()
			return nil, err
		})
		if err != nil {
			return nil, err
		}
		after, err := s.cpuSeconds()
		if err != nil {
			return nil, err
		}
		m.MovingCPU = after - before
		return m, m.validate("hub")
	})
}

// startWebLoad starts a move on a server that accepts WebSockets.
func startWebLoad(ctx context.Context, p *programs, s *server, loadSystem string, flags ...string) (*loadProcess, error) {
	return startLoad(ctx, p, "move", loadSystem, s.addr, append([]string{"-web=" + s.webAddr}, flags...)...)
}
