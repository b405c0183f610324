package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
)

const (
	// slowReadSize bytes per slowReadInterval is how fast a slow receiver reads: fast enough not to be
	// disconnected.
	slowReadSize     = 16 << 10
	slowReadInterval = 50 * time.Millisecond

	slowBodySize  = 10 << 10
	slowPairsRate = 500 // round trips a second that are measured
)

// clusterSlowScenario measures pairs of clients of two hubs without and with one slow receiver at
// the second hub, to which a client of the first sends as much as it can.
func clusterSlowScenario(messages, seconds int) *scenario {
	const without, with = "without a slow receiver", "with a slow receiver"
	s := &scenario{
		name:  "cluster-slow",
		title: fmt.Sprintf("a pair of clients of two hubs moves %s messages of 128 bytes, and another pair exchanges %d messages a second", formatNumber(float64(messages)), slowPairsRate),
		note: fmt.Sprintf("The slow receiver reads %s KiB a second. The rate, and then the round trips, are measured on their own.",
			formatNumber(float64(slowReadSize)/1024*float64(time.Second/slowReadInterval))),
		columns: append([]column{rateColumn}, latencyColumns...),
		ratios: []ratio{
			{heading: "rate ÷ rate without", base: without, value: func(base, other *measurement) float64 { return other.rate() / base.rate() }},
			{heading: "p99 ÷ p99 without", base: without, value: func(base, other *measurement) float64 { return other.P99 / base.P99 }},
		},
	}
	for _, v := range []struct {
		name string
		slow bool
	}{{without, false}, {with, true}} {
		s.subjects = append(s.subjects, subject{v.name, []string{"hub", "nats"}, func(ctx context.Context, p *programs) (*measurement, error) {
			return withPair(ctx, p, "hub", func(pair *serverPair) (*measurement, error) {
				if v.slow {
					stop, err := pair.flood(ctx)
					if err != nil {
						return nil, err
					}
					defer stop()
				}
				return pair.measurePairs(ctx, messages, seconds)
			})
		}})
	}
	return s
}

// measurePairs measures the rate of one pair, and then the round trips of another.
func (sp *serverPair) measurePairs(ctx context.Context, messages, seconds int) (*measurement, error) {
	m, err := sp.move(ctx, "hub", 1, "-clients=2", "-senders=1", "-size=128", "-messages="+strconv.Itoa(messages))
	if err != nil {
		return nil, err
	}
	l, err := runLoad(ctx, sp.programs, "latency", "hub", sp.first.addr, append(sp.loadFlags(1), "-size=128",
		"-rounds="+strconv.Itoa(1<<30), "-rate="+strconv.Itoa(slowPairsRate), "-seconds="+strconv.Itoa(seconds))...)
	if err != nil {
		return nil, err
	}
	m.P50, m.P90, m.P99, m.Max = l.P50, l.P90, l.P99, l.Max
	return m, nil
}

// flood has a client of the first hub send to a slow client of the second one, until stop is
// called.
func (sp *serverPair) flood(ctx context.Context) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	slow, err := client.Dial(ctx, sp.second.addr, &client.Options{NoReconnect: true, Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", sp.second.addr)
		if err != nil {
			return nil, err
		}
		return slowReader{nc}, nc.(*net.TCPConn).SetReadBuffer(slowReadSize)
	}})
	if err != nil {
		cancel()
		return nil, err
	}
	sender, err := client.Dial(ctx, sp.first.addr, &client.Options{NoReconnect: true})
	if err == nil {
		err = awaitTotal(ctx, sender, 2)
	}
	if err != nil {
		cancel()
		return nil, errors.Join(err, slow.Close())
	}
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ctx
		for body := make([]byte, slowBodySize); sender.Send(ctx, []uint64{slow.ID()}, body) == nil; {
		}
	})
	wg.Go(func() { // ends with ctx
		for m, err := slow.Receive(ctx); err == nil; m, err = slow.Receive(ctx) {
			m.Release()
		}
	})
	return func() {
		cancel()
		wg.Wait()
		_, _ = sender.Close(), slow.Close() // what was not delivered is of no interest
	}, nil
}

// slowReader is a connection that reads slowReadSize bytes per slowReadInterval.
type slowReader struct{ net.Conn }

func (c slowReader) Read(p []byte) (int, error) {
	time.Sleep(slowReadInterval)
	return c.Conn.Read(p[:min(len(p), slowReadSize)])
}
