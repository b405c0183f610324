package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/stats"
)

const (
	holdersConns         = 400 // connections that stop in the middle of a message, at a time
	holdersSeconds       = 60  // duration of the measurement
	holdersMarginSeconds = 3   // how much longer the load lasts
	maxHoldersRate       = 400 // new connections a second

	largeBodySize = 1 << 20
	largeInterval = 100 * time.Millisecond // between two messages of the measured clients

	// slowBurst bytes at a time and a pause of slowPause between two bursts model a slow link
	// that loses packets. The average is 48 KiB a second, below -min-rate.
	slowBurst = 144 << 10
	slowPause = 3 * time.Second
)

// holderKind is one way to hold memory with an incomplete message.
type holderKind struct {
	name      string // subject in the table
	kind      string // -kind of the load program
	addresses int
	lifetime  time.Duration // after which a connection is replaced; 0: it stays until the hub ends it
}

var holderKinds = []holderKind{
	{"half of the message, one address", "half", 1, 0},
	{"half of the message, 8 addresses, replaced every second", "half", 8, time.Second},
	{"all but one byte, one address, replaced every second", "but a byte", 1, time.Second},
	{"all but one byte, 8 addresses", "but a byte", 8, 0},
}

// holdersScenario measures clients that send large messages while many other clients do not
// complete theirs.
func (b *bench) holdersScenario(n, seconds int) *scenario {
	s := &scenario{
		name: "holders",
		title: fmt.Sprintf("a message of 1 MiB to another client, 10 a second for %d s, while %s connections stop in the middle of a message",
			seconds, formatNumber(float64(n))),
		note: "Each kind has a hub of its own, with default settings. The load replaces connections that the hub ends. The time of a message counts from when it was due. " +
			"Another client sends messages of 1 MiB over a link that transfers 144 KiB at once and then nothing for 3 s. The last column counts connections that the hub closed, among this client, its receiver and the two measured clients.",
		rounds: 1,
		columns: []column{
			{heading: "p50 ms", value: func(m *measurement) float64 { return m.P50 * 1e3 }},
			{heading: "p99 ms", value: func(m *measurement) float64 { return m.P99 * 1e3 }},
			{heading: "max ms", value: func(m *measurement) float64 { return m.Max * 1e3 }},
			{heading: "connections held", value: func(m *measurement) float64 { return float64(m.HeldConns) }},
			{heading: "connections made", value: func(m *measurement) float64 { return float64(m.MadeConns) }},
			{heading: "server, peak resident MiB", value: func(m *measurement) float64 { return m.Server.PeakMiB }},
			{heading: "other connections closed", value: func(m *measurement) float64 { return float64(m.CutConns) }, showZero: true},
		},
	}
	for _, k := range holderKinds {
		s.subjects = append(s.subjects, subject{k.name, []string{"hub"}, func(ctx context.Context) (*measurement, error) {
			s, err := startHubWith(ctx, b.programs)
			if err != nil {
				return nil, err
			}
			return measureAndStop(s, func(s *server) (*measurement, error) { return b.measureHolders(ctx, s, k, n, seconds) })
		}})
	}
	return s
}

func (b *bench) measureHolders(ctx context.Context, s *server, k holderKind, n, seconds int) (*measurement, error) {
	mc, err := newMeasuredClients(ctx, s.addr)
	if err != nil {
		return nil, err
	}
	defer mc.close()
	holders, err := startLoad(ctx, b.programs, "hostile", "hub", s.addr, "-kind="+k.kind, "-conns="+strconv.Itoa(n), "-addresses="+strconv.Itoa(k.addresses),
		"-stay="+k.lifetime.String(), "-rate="+strconv.Itoa(maxHoldersRate), "-seconds="+strconv.Itoa(seconds+holdersMarginSeconds))
	if err != nil {
		return nil, err
	}
	if err := holders.waitUntilMoving(); err != nil {
		return nil, err
	}
	m := mc.measure(ctx, time.Duration(seconds)*time.Second)
	loadResult, err := holders.finish()
	if err != nil {
		return nil, err
	}
	m.HeldConns, m.MadeConns, m.LoadCPU = loadResult.HeldConns, loadResult.MadeConns, loadResult.LoadCPU
	return m, nil
}

// measuredClients are the clients of a hub on which other clients hold memory: a pair that is
// measured, and a client with a slow link that sends to another.
type measuredClients struct {
	addr        string
	from, to    *client.Client
	slow        *client.Client
	slowTo      *client.Client
	slowNetConn net.Conn // connection of slow
	clients     []*client.Client
}

func newMeasuredClients(ctx context.Context, addr string) (*measuredClients, error) {
	mc := &measuredClients{addr: addr}
	for _, v := range []struct {
		c    **client.Client
		slow bool
	}{{&mc.from, false}, {&mc.to, false}, {&mc.slow, true}, {&mc.slowTo, false}} {
		c, err := client.Dial(ctx, addr, &client.Options{NoReconnect: true, Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			nc, err := d.DialContext(ctx, "tcp", addr)
			if err == nil && v.slow {
				mc.slowNetConn = nc
				nc = &slowConn{Conn: nc, burstLeft: slowBurst}
			}
			return nc, err
		}})
		if err != nil {
			mc.close()
			return nil, err
		}
		*v.c = c
		mc.clients = append(mc.clients, c)
	}
	return mc, nil
}

func (mc *measuredClients) close() {
	if mc.slowNetConn != nil {
		mc.slowNetConn.Close() // Close of the client would wait for its pending writes
	}
	for _, c := range mc.clients {
		_ = c.Close() // the result does not depend on the error
	}
}

// measure sends messages for the duration d and returns the latencies.
func (mc *measuredClients) measure(ctx context.Context, d time.Duration) *measurement {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ctx, or with the connection
		for body := make([]byte, largeBodySize); mc.slow.Send(ctx, []uint64{mc.slowTo.ID()}, body) == nil; {
		}
	})
	wg.Go(func() { // ends with ctx, or with the connection
		for m, err := mc.slowTo.Receive(ctx); err == nil; m, err = mc.slowTo.Receive(ctx) {
			m.Release()
		}
	})
	m := &measurement{}
	latencies := stats.NewLatency()
	start := time.Now()
	body := make([]byte, largeBodySize)
	for n := range uint64(d / largeInterval) {
		due := start.Add(time.Duration(n) * largeInterval)
		time.Sleep(time.Until(due))
		binary.BigEndian.PutUint64(body, n)
		m.Expected++
		if err := mc.transfer(ctx, body); err != nil {
			break // the connection was cut, or the time is over
		}
		m.Deliveries++
		latencies.Record(time.Since(due))
	}
	if m.Deliveries < m.Expected {
		// A lower bound.
		latencies.Record(time.Since(start.Add(time.Duration(m.Deliveries) * largeInterval)))
	}
	cancel()
	wg.Wait()
	for _, c := range mc.clients {
		if c.Err() != nil {
			m.CutConns++
		}
	}
	m.Seconds = time.Since(start).Seconds()
	m.P50, m.P99, m.Max = latencies.Quantile(.5).Seconds(), latencies.Quantile(.99).Seconds(), latencies.Max().Seconds()
	return m
}

// transfer sends a message and waits for its delivery.
func (mc *measuredClients) transfer(ctx context.Context, body []byte) error {
	if err := mc.from.Send(ctx, []uint64{mc.to.ID()}, body); err != nil {
		return err
	}
	m, err := mc.to.Receive(ctx)
	if err != nil {
		return err
	}
	defer m.Release()
	if len(m.Body) != len(body) || binary.BigEndian.Uint64(m.Body) != binary.BigEndian.Uint64(body) {
		return fmt.Errorf("unexpected message")
	}
	return nil
}

// slowConn is a connection that writes a burst of slowBurst bytes, then pauses for slowPause.
type slowConn struct {
	net.Conn
	burstLeft int // of this burst; owned by the writing goroutine
}

func (c *slowConn) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		if c.burstLeft == 0 {
			time.Sleep(slowPause)
			c.burstLeft = slowBurst
		}
		var m int
		m, err = c.Conn.Write(p[:min(len(p), c.burstLeft, 16<<10)])
		c.burstLeft -= m
		n += m
		p = p[m:]
	}
	return n, err
}
