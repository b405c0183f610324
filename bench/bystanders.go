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
	bystandEvery = 2 * time.Millisecond // between two messages
	bystandBytes = 128
)

// bystanders are two clients of a hub who have nothing to do with what others do to it.
type bystanders struct {
	a, b   *client.Client
	number uint64 // of the last message
}

// newBystanders connects them. secrets is nil where a hub needs none.
func newBystanders(ctx context.Context, addr string, secrets *secrets) (*bystanders, error) {
	options := client.Options{NoReconnect: true}
	if secrets != nil {
		options.TLS = secrets.trust
		options.Token = func(context.Context) (string, error) { return secrets.token, nil }
	}
	a, err := client.Dial(ctx, addr, &options)
	if err != nil {
		return nil, err
	}
	y := &bystanders{a: a}
	back, connected := options, make(chan struct{})
	back.OnMessage = func(m client.Message) {
		<-connected
		_ = y.b.Send(context.WithoutCancel(ctx), []uint64{a.ID()}, m.Body) // what does not come back is missed
	}
	if y.b, err = client.Dial(ctx, addr, &back); err != nil {
		a.Close()
		return nil, err
	}
	close(connected)
	return y, nil
}

func (y *bystanders) close() {
	y.a.Close()
	y.b.Close()
}

// measure sends a message now and then for so long, and waits for each to come back as it was. The
// time counts from when a message was due: one that could not be sent for the one before waits as well.
func (y *bystanders) measure(ctx context.Context, d time.Duration) (*measured, error) {
	ctx, cancel := context.WithTimeout(ctx, d+patience)
	defer cancel()
	times := stats.NewLatency()
	begin := time.Now()
	rounds := int(d / bystandEvery)
	body := make([]byte, bystandBytes)
	for i := range rounds {
		due := begin.Add(time.Duration(i) * bystandEvery)
		time.Sleep(time.Until(due))
		y.number++
		binary.BigEndian.PutUint64(body, y.number)
		if err := y.a.Send(ctx, []uint64{y.b.ID()}, body); err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		m, err := y.a.Receive(ctx)
		if err != nil {
			return nil, fmt.Errorf("message %d does not come back: %w", i, err)
		}
		if !bytes.Equal(m.Body, body) {
			return nil, fmt.Errorf("message %d comes back as another", i)
		}
		m.Release()
		times.Record(time.Since(due))
	}
	return &measured{
		Expected: uint64(rounds), Deliveries: uint64(rounds), Seconds: time.Since(begin).Seconds(),
		P50: times.Quantile(.5).Seconds(), P90: times.Quantile(.9).Seconds(), P99: times.Quantile(.99).Seconds(), Max: times.Max().Seconds(),
	}, nil
}
