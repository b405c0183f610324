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

// bystanders are two clients of a hub who have nothing to do with what others do to it.
type bystanders struct {
	a, b       *client.Client
	lastNumber uint64 // of the last message
}

// newBystanders connects them. secrets is nil where a hub needs none.
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
		_ = bs.b.Send(context.WithoutCancel(ctx), []uint64{a.ID()}, m.Body) // what does not come back is missed
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

// measure sends a message now and then for so long, and waits for each to come back as it was. The
// time counts from when a message was due: one that could not be sent for the one before waits as well.
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
			return nil, fmt.Errorf("message %d does not come back: %w", i, err)
		}
		if !bytes.Equal(m.Body, body) {
			return nil, fmt.Errorf("message %d comes back as another", i)
		}
		m.Release()
		latencies.Record(time.Since(due))
	}
	return &measurement{
		Expected: uint64(rounds), Deliveries: uint64(rounds), Seconds: time.Since(begin).Seconds(),
		P50: latencies.Quantile(.5).Seconds(), P90: latencies.Quantile(.9).Seconds(), P99: latencies.Quantile(.99).Seconds(), Max: latencies.Max().Seconds(),
	}, nil
}
