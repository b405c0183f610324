package link

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
)

// benchPair is two links whose frames are handled at once by the goroutine that sends them.
type benchPair struct {
	a, b *Link
	wg   sync.WaitGroup
	stop chan struct{}

	mu       sync.Mutex
	arrived  sync.Cond
	received uint64 // by b
}

func newBenchPair() *benchPair {
	p := &benchPair{stop: make(chan struct{})}
	p.arrived.L = &p.mu
	config := func(to **Link, onData func([]byte) error) Config {
		return Config{
			MaxFrame: 64 << 10,
			Send:     func(frame []byte) error { (*to).Handle(frame); return nil },
			OnData:   onData, OnBreak: func(uint64, uint64, error) {}, OnEstablished: func() {},
		}
	}
	p.a = New(config(&p.b, func([]byte) error { return nil }), 0)
	p.b = New(config(&p.a, p.receive), 0)
	p.wg.Go(func() { p.a.Run(p.stop) })
	p.wg.Go(func() { p.b.Run(p.stop) })
	return p
}

func (p *benchPair) receive(data []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received += uint64(len(data))
	p.arrived.Signal()
	return nil
}

// waitFor waits until b has received all bytes up to an offset.
func (p *benchPair) waitFor(offset uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.received < offset {
		p.arrived.Wait()
	}
}

func (p *benchPair) end() {
	close(p.stop)
	p.wg.Wait()
}

// BenchmarkLink sends records of one size from one link to another, with up to 4 MiB under way, as
// a cluster has it. Up to 16 KiB of small records are flushed at once.
func BenchmarkLink(b *testing.B) {
	const window, flushBytes = 4 << 20, 16 << 10
	for _, size := range []int{128, 1 << 10, 10 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := newBenchPair()
			defer p.end()
			buffer := body.Get(size)
			defer buffer.Release()
			head := make([]byte, 16)
			perFlush := max(1, flushBytes/size)
			var end uint64
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				_, end = p.a.Append(head, buffer, 0, size)
				if n%perFlush == 0 {
					p.a.Flush()
					p.waitFor(max(end, window) - window)
				}
			}
			p.a.Flush()
			p.waitFor(end)
		})
	}
}

// BenchmarkLink_RoundTrip sends one record at a time, each after the previous one has arrived.
func BenchmarkLink_RoundTrip(b *testing.B) {
	p := newBenchPair()
	defer p.end()
	record := make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		_, end := p.a.Append(record, nil, 0, 0)
		p.a.Flush()
		p.waitFor(end)
	}
}
