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
	listClients    = 10_000 // connected clients
	listRequesters = 100    // clients that request the list at the same time, every listInterval
	listInterval   = time.Second
	listSeconds    = 8 // duration of a measurement
)

// listScenario measures the effect of list requests on the latency of other clients.
func listScenario(n, seconds int) *scenario {
	const without, with = "no list requests", "100 clients request, once a second"
	s := &scenario{
		name: "list",
		title: fmt.Sprintf("a message of 128 bytes to another client and back, while %d of %s connected clients request the list of all clients",
			listRequesters, formatNumber(float64(n))),
		columns: append(slices.Clone(latencyColumns), column{
			heading: "ms until all have received their list", value: func(m *measurement) float64 { return m.ListSeconds * 1e3 },
		}),
		ratios: []ratio{
			{heading: "p50 ÷ p50 without requests", base: without, value: func(base, other *measurement) float64 { return other.P50 / base.P50 }},
			{heading: "p99 ÷ p99 without requests", base: without, value: func(base, other *measurement) float64 { return other.P99 / base.P99 }},
		},
	}
	for _, v := range []struct {
		name   string
		asking int
	}{{without, 0}, {with, listRequesters}} {
		s.subjects = append(s.subjects, subject{v.name, []string{"hub"}, func(ctx context.Context, p *programs) (*measurement, error) {
			return withServer(ctx, p, "hub", limitsRaised, func(s *server) (*measurement, error) {
				return measureList(ctx, p, s, n, v.asking, seconds)
			})
		}})
	}
	return s
}

// measureList measures latencies with n connected clients, of which requesters request lists.
func measureList(ctx context.Context, p *programs, s *server, n, requesters, seconds int) (*measurement, error) {
	conns, err := openConns(ctx, s, n, greetHub)
	defer closeAll(conns)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan listResult, 1)
	go func() { done <- requestLists(ctx, conns[:requesters], n-1) }() // ends with ctx
	m, err := runLoad(ctx, p, "latency", "hub", s.addr,
		"-size=128", "-rounds="+strconv.Itoa(1<<30), "-seconds="+strconv.Itoa(seconds))
	stop()
	lists := <-done
	if err != nil {
		return nil, err
	}
	m.ListSeconds = lists.seconds
	return m, lists.err
}

// listResult is the result of requestLists.
type listResult struct {
	seconds float64 // until all clients have their list: the median of all rounds
	err     error
}

// requestLists requests a list on all connections every listInterval until ctx ends.
func requestLists(ctx context.Context, conns []net.Conn, minIDs int) listResult {
	if len(conns) == 0 {
		return listResult{}
	}
	var times []float64
	ticker := time.NewTicker(listInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			if len(times) == 0 {
				return listResult{err: fmt.Errorf("no list request within %v", listInterval)}
			}
			return listResult{seconds: newSpread(times).Median}
		case <-ticker.C:
		}
		begin := time.Now()
		if err := requestListsOnce(conns, minIDs); err != nil {
			return listResult{err: err}
		}
		times = append(times, time.Since(begin).Seconds())
	}
}

// requestListsOnce requests a list on each connection and then reads all replies, each of
// which must have at least minIDs ids.
func requestListsOnce(conns []net.Conn, minIDs int) error {
	for _, c := range conns {
		if err := c.SetDeadline(time.Now().Add(waitTimeout)); err != nil {
			return err
		}
		if _, err := c.Write(wire.AppendListRequest(nil)); err != nil {
			return err
		}
	}
	r := bufio.NewReaderSize(nil, 64<<10)
	for _, c := range conns {
		r.Reset(c) // a connection has one reply: no buffered bytes are lost
		var length [wire.LengthSize]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return err
		}
		n := int64(binary.BigEndian.Uint32(length[:]))
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			return err
		}
		if ids := (n - 1) / wire.IDSize; ids < int64(minIDs) {
			return fmt.Errorf("list of %d ids, want %d", ids, minIDs)
		}
	}
	return nil
}
