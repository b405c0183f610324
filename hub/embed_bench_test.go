package hub_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// BenchmarkSend compares Hub.Send with a client of version 2 over loopback: the same messages to
// the same receivers, without reports, and with reports of the level received from 64 goroutines.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{128, 10_000, 200_000} {
		for _, receivers := range []int{1, 10, 100} {
			for _, level := range []wire.Level{wire.LevelNone, wire.LevelReceived} {
				for _, from := range []string{"client", "hub"} {
					b.Run(fmt.Sprintf("%d bytes to %d/level %d/%s", size, receivers, level, from), func(b *testing.B) {
						benchmarkSend(b, size, receivers, level, from == "hub")
					})
				}
			}
		}
	}
}

func benchmarkSend(b *testing.B, size, receivers int, level wire.Level, inProcess bool) {
	ctx, body := context.Background(), make([]byte, size)
	h := start(b, hub.Config{})
	var received atomic.Int64
	var to []uint64
	for range receivers {
		c, err := client.Dial(ctx, h.addr, &client.Options{OnMessage: func(client.Message) { received.Add(1) }})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		to = append(to, c.ID())
	}
	send := func() error {
		_, err := h.Send(ctx, 1<<40, to, body, &hub.SendOptions{Level: level})
		return err
	}
	if !inProcess {
		sender := h.dialClient(b)
		send = func() error { return sender.Send(ctx, to, body) }
		if level != wire.LevelNone {
			send = func() error {
				_, err := sender.SendReport(ctx, to, body, &client.SendOptions{Level: level})
				return err
			}
		}
	}
	b.ReportAllocs()
	if level == wire.LevelNone {
		for b.Loop() {
			if err := send(); err != nil {
				b.Fatal(err)
			}
		}
	} else {
		sendConcurrently(b, 64, send)
	}
	eventually(b, "all messages arrive", func() bool { return received.Load() >= int64(b.N*receivers) })
	b.ReportMetric(float64(b.N*receivers)/b.Elapsed().Seconds(), "deliveries/s")
}

// sendConcurrently calls send b.N times, from several goroutines.
func sendConcurrently(b *testing.B, goroutines int, send func() error) {
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	for range goroutines {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := send(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
