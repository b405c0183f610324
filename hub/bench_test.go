package hub_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// audience are clients that read and forget, and count what they read.
type audience struct {
	ids   []uint64
	bytes atomic.Int64
}

// listen connects n clients that read until the end of the test, without
// allocating.
func (s *testHub) listen(t testing.TB, n int) *audience {
	t.Helper()
	a := &audience{}
	for range n {
		p := s.peer(t)
		a.ids = append(a.ids, p.id)
		buffer := make([]byte, 64<<10)
		go func() { // ends with the connection, which the test closes
			for {
				n, err := p.Read(buffer)
				a.bytes.Add(int64(n))
				if err != nil {
					return
				}
			}
		}()
	}
	return a
}

// heard waits until every one of the audience has read so many more bytes.
func (a *audience) heard(t testing.TB, since int64, each int) {
	t.Helper()
	want := since + int64(each)*int64(len(a.ids))
	eventually(t, "everything heard", func() bool { return a.bytes.Load() >= want })
}

// TestRelaysAllocateNothing counts the allocations of the whole process while a
// warm hub delivers: far less than one for each delivery.
func TestRelaysAllocateNothing(t *testing.T) {
	for _, size := range []int{0, 128, 10_000, 100_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			h := start(t, hub.Config{})
			sender, audience := h.peer(t), h.listen(t, 10)
			relays := max(10, 5_000_000/(size+500))
			block := bytes.Repeat(wire.AppendRelay(nil, audience.ids, make([]byte, size)), relays/10)
			deliver := func() {
				since := audience.bytes.Load()
				for range 10 {
					sender.send(block)
				}
				audience.heard(t, since, relays/10*10*wire.DeliveryLen(size))
			}
			deliver()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			deliver()
			runtime.ReadMemStats(&after)
			deliveries := relays / 10 * 10 * len(audience.ids)
			each := float64(after.Mallocs-before.Mallocs) / float64(deliveries)
			t.Logf("%.4f allocations for each of %d deliveries", each, deliveries)
			if most := 0.1 + 5*float64(size)/100_000; each > most {
				t.Errorf("%.4f allocations for each delivery, at most %.2f expected", each, most)
			}
		})
	}
}

// TestAWarmRelayAllocatesNothing sends one relay after the other, each when the one
// before has reached everybody.
func TestAWarmRelayAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget under the race detector")
	}
	for _, receivers := range []int{1, 10, 255} {
		for _, size := range []int{0, 128, 10_000, 100_000} {
			t.Run(fmt.Sprintf("%d bytes to %d", size, receivers), func(t *testing.T) {
				if got := allocations(t, hub.Config{}, receivers, size); got != 0 {
					t.Errorf("%v allocations for each relay, want none", got)
				}
			})
		}
	}
}

// TestAMessageThatIsNotDrawnAllocatesNothing has a hub that traces messages, but hardly ever one.
func TestAMessageThatIsNotDrawnAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget under the race detector")
	}
	for _, size := range []int{128, 100_000} {
		config := hub.Config{Trace: func(hub.Trace) bool { return true }, TraceOneIn: 1 << 30}
		if got := allocations(t, config, 10, size); got != 0 {
			t.Errorf("%d bytes: %v allocations for each relay, want none", size, got)
		}
	}
}

// allocations returns how often this process allocates for a relay, from the sender
// to the last receiver.
func allocations(t *testing.T, config hub.Config, receivers, size int) float64 {
	h := start(t, config)
	sender := h.peer(t)
	var ids []uint64
	var peers []*peer
	for range receivers {
		p := h.peer(t)
		ids, peers = append(ids, p.id), append(peers, p)
	}
	relay := wire.AppendRelay(nil, ids, make([]byte, size))
	delivery := make([]byte, wire.DeliveryLen(size))
	return testing.AllocsPerRun(50, func() {
		sender.send(relay)
		for _, p := range peers {
			if _, err := io.ReadFull(p, delivery); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// BenchmarkRelay delivers small bodies; one operation is a block of relays, as a
// client writes them that has much to say.
func BenchmarkRelay(b *testing.B) { benchmarkRelays(b, hub.Config{}) }

func benchmarkRelays(b *testing.B, config hub.Config) {
	const relays, size = 100, 128
	for _, receivers := range []int{1, 10, 255} {
		b.Run(fmt.Sprintf("to %d", receivers), func(b *testing.B) {
			h := start(b, config)
			sender, audience := h.peer(b), h.listen(b, receivers)
			block := bytes.Repeat(wire.AppendRelay(nil, audience.ids, make([]byte, size)), relays)
			since := audience.bytes.Load()
			b.ReportAllocs()
			b.SetBytes(int64(receivers * relays * wire.DeliveryLen(size)))
			for b.Loop() {
				sender.send(block)
			}
			audience.heard(b, since, b.N*relays*wire.DeliveryLen(size))
			b.ReportMetric(float64(b.N*relays*receivers)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

// BenchmarkRoundTrip sends a small body there and back, one at a time.
func BenchmarkRoundTrip(b *testing.B) {
	h := start(b, hub.Config{})
	p, q := h.peer(b), h.peer(b)
	there := wire.AppendRelay(nil, []uint64{q.id}, make([]byte, 128))
	back := wire.AppendRelay(nil, []uint64{p.id}, make([]byte, 128))
	delivery := make([]byte, wire.DeliveryLen(128))
	b.ReportAllocs()
	for b.Loop() {
		for _, way := range []struct {
			from, to *peer
			frame    []byte
		}{{p, q, there}, {q, p, back}} {
			way.from.send(way.frame)
			if _, err := io.ReadFull(way.to, delivery); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkList asks who else is there.
func BenchmarkList(b *testing.B) {
	for _, clients := range []int{10, 2000} {
		b.Run(fmt.Sprintf("of %d", clients), func(b *testing.B) {
			h := start(b, hub.Config{})
			for range clients {
				h.silent(b)
			}
			eventually(b, "all connected", func() bool { return h.Stats().Clients == clients })
			p := h.peer(b)
			answer := make([]byte, wire.ListLen(clients))
			b.ReportAllocs()
			for b.Loop() {
				p.send(wire.AppendListRequest(nil))
				if _, err := io.ReadFull(p, answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
