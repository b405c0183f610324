package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/stats"
)

const (
	largeBodySize = 1 << 20
	largeInterval = 100 * time.Millisecond // between two messages of the measured clients
)

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
