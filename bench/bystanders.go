package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/stats"
)

const (
	bystanderInterval = 2 * time.Millisecond // between two messages
	bystanderBodySize = 128
)

// bystanders are two clients of a hub that take no part in the load on that hub.
type bystanders struct {
	a, b       *client.Client
	lastNumber uint64 // number of the last message
}

// newBystanders connects two clients. creds is nil if the hub requires none.
func newBystanders(ctx context.Context, addr string, creds *credentials) (*bystanders, error) {
	options := client.Options{NoReconnect: true}
	if creds != nil {
		options.TLS = creds.clientTLS
		options.GetToken = func(context.Context) (string, error) { return creds.token, nil }
	}
	a, err := client.Dial(ctx, addr, &options)
	if err != nil {
		return nil, err
	}
	bs := &bystanders{a: a}
	echoOptions, connected := options, make(chan struct{})
	echoOptions.OnMessage = func(m client.Message) {
		<-connected
		_ = bs.b.Send(context.WithoutCancel(ctx), []uint64{a.ID()}, m.Body) // measure notices a loss
	}
	if bs.b, err = client.Dial(ctx, addr, &echoOptions); err != nil {
		a.Close()
		return nil, err
	}
	close(connected)
	return bs, nil
}

func (bs *bystanders) close() {
	bs.a.Close()
	bs.b.Close()
}

// measure sends messages at bystanderInterval for the duration d and checks that each returns
// unchanged. The latency of a message counts from when it was due, therefore it includes the
// delay by an earlier message.
func (bs *bystanders) measure(ctx context.Context, d time.Duration) (*measurement, error) {
	ctx, cancel := context.WithTimeout(ctx, d+waitTimeout)
	defer cancel()
	latencies := stats.NewLatency()
	begin := time.Now()
	rounds := int(d / bystanderInterval)
	body := make([]byte, bystanderBodySize)
	for i := range rounds {
		due := begin.Add(time.Duration(i) * bystanderInterval)
		time.Sleep(time.Until(due))
		bs.lastNumber++
		binary.BigEndian.PutUint64(body, bs.lastNumber)
		if err := bs.a.Send(ctx, []uint64{bs.b.ID()}, body); err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		m, err := bs.a.Receive(ctx)
		if err != nil {
			return nil, fmt.Errorf("message %d did not return: %w", i, err)
		}
		if !bytes.Equal(m.Body, body) {
			return nil, fmt.Errorf("message %d returned with another body", i)
		}
		m.Release()
		latencies.Record(time.Since(due))
	}
	return &measurement{
		Expected: uint64(rounds), Deliveries: uint64(rounds), Seconds: time.Since(begin).Seconds(),
		P50: latencies.Quantile(.5).Seconds(), P90: latencies.Quantile(.9).Seconds(), P99: latencies.Quantile(.99).Seconds(), Max: latencies.Max().Seconds(),
	}, nil
}
