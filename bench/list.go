package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

const (
	listClients = 10_000 // connected
	listAsking  = 100    // of them, all at once, and again every listEvery
	listEvery   = time.Second
	listSeconds = 8 // of measuring, without and with
)

// listScenario measures what lists cost those who send in the meantime.
func (b *bench) listScenario(n, seconds int) *scenario {
	const without, with = "nobody asks", "100 ask, once a second"
	s := &scenario{
		name: "list",
		title: fmt.Sprintf("a message of 128 bytes to another client and back, while %d of %s connected clients ask for the list of all",
			listAsking, number(float64(n))),
		columns: append(slices.Clone(latencyColumns), column{
			heading: "ms until all have their list", of: func(m *measured) float64 { return m.Lists * 1e3 },
		}),
		ratios: []ratio{
			{heading: "p50 ÷ without", base: without, of: func(base, other *measured) float64 { return other.P50 / base.P50 }},
			{heading: "p99 ÷ without", base: without, of: func(base, other *measured) float64 { return other.P99 / base.P99 }},
		},
	}
	for _, one := range []struct {
		name   string
		asking int
	}{{without, 0}, {with, listAsking}} {
		s.subjects = append(s.subjects, subject{one.name, []string{"hub"}, func(ctx context.Context) (*measured, error) {
			return b.with(ctx, "hub", raised, func(s *server) (*measured, error) {
				return b.measureList(ctx, s, n, one.asking, seconds)
			})
		}})
	}
	return s
}

// measureList measures latencies with n clients connected, of whom some ask.
func (b *bench) measureList(ctx context.Context, s *server, n, asking, seconds int) (*measured, error) {
	conns, err := connect(ctx, s, n, greetHub)
	defer closeAll(conns)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	asked := make(chan asks, 1)
	go func() { asked <- askAgain(ctx, conns[:asking], n-1) }() // ends with ctx, after the round under way
	m, err := load(ctx, b.programs, "latency", "hub", s.addr,
		"-size=128", "-rounds="+strconv.Itoa(1<<30), "-seconds="+strconv.Itoa(seconds))
	stop()
	lists := <-asked
	if err != nil {
		return nil, err
	}
	m.Lists = lists.seconds
	return m, lists.err
}

// asks is what became of asking.
type asks struct {
	seconds float64 // until all have their list: the median of all times
	err     error
}

// askAgain has all the connections ask every listEvery until ctx ends.
func askAgain(ctx context.Context, conns []net.Conn, least int) asks {
	if len(conns) == 0 {
		return asks{}
	}
	var times []float64
	ticker := time.NewTicker(listEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			if len(times) == 0 {
				return asks{err: fmt.Errorf("nobody asked within %v", listEvery)}
			}
			return asks{seconds: spreadOf(times).Median}
		case <-ticker.C:
		}
		begin := time.Now()
		if err := askOnce(conns, least); err != nil {
			return asks{err: err}
		}
		times = append(times, time.Since(begin).Seconds())
	}
}

// askOnce has each connection ask for the list, and then reads all answers, which
// must have so many ids at least.
func askOnce(conns []net.Conn, least int) error {
	for _, c := range conns {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := c.Write(wire.AppendListRequest(nil)); err != nil {
			return err
		}
	}
	r := bufio.NewReaderSize(nil, 64<<10)
	for _, c := range conns {
		r.Reset(c) // an answer is alone: nothing of the next one is lost
		var length [wire.LengthSize]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return err
		}
		n := int64(binary.BigEndian.Uint32(length[:]))
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			return err
		}
		if ids := (n - 1) / wire.IDSize; ids < int64(least) {
			return fmt.Errorf("list of %d ids, want %d", ids, least)
		}
	}
	return nil
}
