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
	holdersConns   = 400 // that stop in the middle of a message, at once
	holdersSeconds = 60  // for which others are measured
	holdersMargin  = 3   // seconds more
	holdersRate    = 400 // connections that are made in a second, at most

	largeBytes = 1 << 20
	largeEvery = 100 * time.Millisecond // between two messages of those who are measured

	// A slow link brings a burst and then nothing for a while, as one that loses packets: 48 KiB a
	// second on average, below -min-rate.
	slowBurst = 144 << 10
	slowPause = 3 * time.Second
)

// holderKind is one way to hold memory with a message that does not end.
type holderKind struct {
	name      string // for people
	kind      string // as the load program calls it
	addresses int
	stay      time.Duration // after which a connection comes again; 0: it stays until the hub ends it
}

var holderKinds = []holderKind{
	{"half of it, one address", "half", 1, 0},
	{"half of it, 8 addresses, again every second", "half", 8, time.Second},
	{"all but a byte, one address, again every second", "but a byte", 1, time.Second},
	{"all but a byte, 8 addresses", "but a byte", 8, 0},
}

// holdersScenario measures what those notice who send large messages while many others do not
// finish theirs.
func (b *bench) holdersScenario(n, seconds int) *scenario {
	s := &scenario{
		name: "holders",
		title: fmt.Sprintf("a message of 1 MiB to another client, 10 a second for %d s, while %s connections stop in the middle of one",
			seconds, number(float64(n))),
		note: "Each kind has a hub of its own, with default settings. Connections that the hub ends are made anew. A time counts from when the message was due. " +
			"Another client sends messages of 1 MiB over a link that brings 144 KiB at once and then nothing for 3 s; it, its receiver, and the two that are measured are those who could be cut.",
		rounds: 1,
		columns: []column{
			{heading: "p50 ms", of: func(m *measured) float64 { return m.P50 * 1e3 }},
			{heading: "p99 ms", of: func(m *measured) float64 { return m.P99 * 1e3 }},
			{heading: "most ms", of: func(m *measured) float64 { return m.Max * 1e3 }},
			{heading: "connections held", of: func(m *measured) float64 { return float64(m.Held) }},
			{heading: "made in all", of: func(m *measured) float64 { return float64(m.Made) }},
			{heading: "server, peak resident MiB", of: func(m *measured) float64 { return m.Server.PeakMiB }},
			{heading: "others cut", of: func(m *measured) float64 { return float64(m.Cut) }, zero: true},
		},
	}
	for _, k := range holderKinds {
		s.subjects = append(s.subjects, subject{k.name, []string{"hub"}, func(ctx context.Context) (*measured, error) {
			s, err := startHubWith(ctx, b.programs)
			if err != nil {
				return nil, err
			}
			return use(s, func(s *server) (*measured, error) { return b.measureHolders(ctx, s, k, n, seconds) })
		}})
	}
	return s
}

func (b *bench) measureHolders(ctx context.Context, s *server, k holderKind, n, seconds int) (*measured, error) {
	o, err := newOthers(ctx, s.addr)
	if err != nil {
		return nil, err
	}
	defer o.close()
	holders, err := startLoad(ctx, b.programs, "hostile", "hub", s.addr, "-kind="+k.kind, "-conns="+strconv.Itoa(n), "-addresses="+strconv.Itoa(k.addresses),
		"-stay="+k.stay.String(), "-rate="+strconv.Itoa(holdersRate), "-seconds="+strconv.Itoa(seconds+holdersMargin))
	if err != nil {
		return nil, err
	}
	if err := holders.moving(); err != nil {
		return nil, err
	}
	m := o.measure(ctx, time.Duration(seconds)*time.Second)
	done, err := holders.finish()
	if err != nil {
		return nil, err
	}
	m.Held, m.Made, m.LoadCPU = done.Held, done.Made, done.LoadCPU
	return m, nil
}

// others are clients of a hub on which somebody holds memory: a pair that is measured, and one with
// a slow link that sends to another.
type others struct {
	addr     string
	from, to *client.Client
	slow     *client.Client
	slowTo   *client.Client
	link     net.Conn // the slow one
	all      []*client.Client
}

func newOthers(ctx context.Context, addr string) (*others, error) {
	o := &others{addr: addr}
	for _, one := range []struct {
		c    **client.Client
		slow bool
	}{{&o.from, false}, {&o.to, false}, {&o.slow, true}, {&o.slowTo, false}} {
		c, err := client.Dial(ctx, addr, &client.Options{NoReconnect: true, Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			nc, err := d.DialContext(ctx, "tcp", addr)
			if err == nil && one.slow {
				o.link = nc
				nc = &slowConn{Conn: nc, left: slowBurst}
			}
			return nc, err
		}})
		if err != nil {
			o.close()
			return nil, err
		}
		*one.c = c
		o.all = append(o.all, c)
	}
	return o, nil
}

func (o *others) close() {
	if o.link != nil {
		o.link.Close() // it would take its time for what it has still to send
	}
	for _, c := range o.all {
		_ = c.Close() // as above
	}
}

// measure sends messages for so long.
func (o *others) measure(ctx context.Context, d time.Duration) *measured {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var working sync.WaitGroup
	working.Go(func() { // ends with ctx, or when the connection does
		for body := make([]byte, largeBytes); o.slow.Send(ctx, []uint64{o.slowTo.ID()}, body) == nil; {
		}
	})
	working.Go(func() { // likewise
		for m, err := o.slowTo.Receive(ctx); err == nil; m, err = o.slowTo.Receive(ctx) {
			m.Release()
		}
	})
	m := &measured{}
	times := stats.NewLatency()
	began := time.Now()
	body := make([]byte, largeBytes)
	for n := range uint64(d / largeEvery) {
		due := began.Add(time.Duration(n) * largeEvery)
		time.Sleep(time.Until(due))
		binary.BigEndian.PutUint64(body, n)
		m.Expected++
		if err := o.move(ctx, body); err != nil {
			break // it is one of those that are cut, or the time is over before it came
		}
		m.Deliveries++
		times.Record(time.Since(due))
	}
	if m.Deliveries < m.Expected {
		times.Record(time.Since(began.Add(time.Duration(m.Deliveries) * largeEvery))) // so long at least
	}
	cancel()
	working.Wait()
	for _, c := range o.all {
		if c.Err() != nil {
			m.Cut++
		}
	}
	m.Seconds = time.Since(began).Seconds()
	m.P50, m.P99, m.Max = times.Quantile(.5).Seconds(), times.Quantile(.99).Seconds(), times.Max().Seconds()
	return m
}

// move sends a message, and waits until it has come.
func (o *others) move(ctx context.Context, body []byte) error {
	if err := o.from.Send(ctx, []uint64{o.to.ID()}, body); err != nil {
		return err
	}
	m, err := o.to.Receive(ctx)
	if err != nil {
		return err
	}
	defer m.Release()
	if len(m.Body) != len(body) || binary.BigEndian.Uint64(m.Body) != binary.BigEndian.Uint64(body) {
		return fmt.Errorf("another message came")
	}
	return nil
}

// slowConn is a connection whose way to the other end carries a burst now and then.
type slowConn struct {
	net.Conn
	left int // of this burst; belongs to the one who writes
}

func (c *slowConn) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		if c.left == 0 {
			time.Sleep(slowPause)
			c.left = slowBurst
		}
		var m int
		m, err = c.Conn.Write(p[:min(len(p), c.left, 16<<10)])
		c.left -= m
		n += m
		p = p[m:]
	}
	return n, err
}
