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

// readerGroup is a group of clients that read, discard and count bytes.
type readerGroup struct {
	ids       []uint64
	bytesRead atomic.Int64
}

// connectReaders connects n clients that read until the end of the test. They do not allocate
// while they read.
func (h *testHub) connectReaders(t testing.TB, n int) *readerGroup {
	t.Helper()
	r := &readerGroup{}
	for range n {
		c := h.connectV1(t)
		r.ids = append(r.ids, c.id)
		buffer := make([]byte, 64<<10)
		go func() { // ends with the connection, which the test closes
			for {
				n, err := c.Read(buffer)
				r.bytesRead.Add(int64(n))
				if err != nil {
					return
				}
			}
		}()
	}
	return r
}

// waitRead waits until bytesRead has grown from since by each bytes per reader.
func (r *readerGroup) waitRead(t testing.TB, since int64, each int) {
	t.Helper()
	want := since + int64(each)*int64(len(r.ids))
	eventually(t, "all bytes read", func() bool { return r.bytesRead.Load() >= want })
}

// TestRelay_Pipelined_AllocatesNothing counts the allocations of the whole process while a
// warm hub delivers. There must be far less than one per delivery.
func TestRelay_Pipelined_AllocatesNothing(t *testing.T) {
	for _, size := range []int{0, 128, 10_000, 100_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			h := start(t, hub.Config{})
			sender, readers := h.connectV1(t), h.connectReaders(t, 10)
			relays := max(10, 5_000_000/(size+500))
			block := bytes.Repeat(wire.AppendRelay(nil, readers.ids, make([]byte, size)), relays/10)
			deliver := func() {
				since := readers.bytesRead.Load()
				for range 10 {
					sender.send(block)
				}
				readers.waitRead(t, since, relays/10*10*wire.RelayDeliveryLen(size))
			}
			deliver()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			deliver()
			runtime.ReadMemStats(&after)
			deliveries := relays / 10 * 10 * len(readers.ids)
			each := float64(after.Mallocs-before.Mallocs) / float64(deliveries)
			t.Logf("%.4f allocations per delivery of %d deliveries", each, deliveries)
			if maxAllocs := 0.1 + 5*float64(size)/100_000; each > maxAllocs {
				t.Errorf("%.4f allocations per delivery, want at most %.2f", each, maxAllocs)
			}
		})
	}
}

// TestRelay_OneAtATime_AllocatesNothing sends one relay at a time, each after the previous one
// has reached all receivers.
func TestRelay_OneAtATime_AllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop entries under the race detector")
	}
	for _, receivers := range []int{1, 10, 255} {
		for _, size := range []int{0, 128, 10_000, 100_000} {
			t.Run(fmt.Sprintf("%d bytes to %d", size, receivers), func(t *testing.T) {
				if got := allocsPerRelay(t, hub.Config{}, receivers, size); got != 0 {
					t.Errorf("%v allocations per relay, want none", got)
				}
			})
		}
	}
}

// TestRelay_Unsampled_AllocatesNothing runs a hub with tracing that samples one message in
// 2^30.
func TestRelay_Unsampled_AllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop entries under the race detector")
	}
	for _, size := range []int{128, 100_000} {
		config := hub.Config{OnTrace: func(hub.Trace) bool { return true }, TraceSampleRate: 1 << 30}
		if got := allocsPerRelay(t, config, 10, size); got != 0 {
			t.Errorf("%d bytes: %v allocations per relay, want none", size, got)
		}
	}
}

// allocsPerRelay returns the number of allocations of this process per relay, from the sender
// to the last receiver.
func allocsPerRelay(t *testing.T, config hub.Config, receivers, size int) float64 {
	h := start(t, config)
	sender := h.connectV1(t)
	var ids []uint64
	var clients []*clientV1
	for range receivers {
		c := h.connectV1(t)
		ids, clients = append(ids, c.id), append(clients, c)
	}
	relay := wire.AppendRelay(nil, ids, make([]byte, size))
	delivery := make([]byte, wire.RelayDeliveryLen(size))
	return testing.AllocsPerRun(50, func() {
		sender.send(relay)
		for _, c := range clients {
			if _, err := io.ReadFull(c, delivery); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// BenchmarkRelay delivers small bodies. One operation is a block of relays in one write, as a
// busy client sends them.
func BenchmarkRelay(b *testing.B) { benchmarkRelays(b, hub.Config{}) }

func benchmarkRelays(b *testing.B, config hub.Config) {
	const relays, size = 100, 128
	for _, receivers := range []int{1, 10, 255} {
		b.Run(fmt.Sprintf("to %d", receivers), func(b *testing.B) {
			h := start(b, config)
			sender, readers := h.connectV1(b), h.connectReaders(b, receivers)
			block := bytes.Repeat(wire.AppendRelay(nil, readers.ids, make([]byte, size)), relays)
			since := readers.bytesRead.Load()
			b.ReportAllocs()
			b.SetBytes(int64(receivers * relays * wire.RelayDeliveryLen(size)))
			for b.Loop() {
				sender.send(block)
			}
			readers.waitRead(b, since, b.N*relays*wire.RelayDeliveryLen(size))
			b.ReportMetric(float64(b.N*relays*receivers)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

// BenchmarkRoundTrip sends a small body and receives one in reply, one round trip at a time.
func BenchmarkRoundTrip(b *testing.B) {
	h := start(b, hub.Config{})
	c, other := h.connectV1(b), h.connectV1(b)
	request := wire.AppendRelay(nil, []uint64{other.id}, make([]byte, 128))
	reply := wire.AppendRelay(nil, []uint64{c.id}, make([]byte, 128))
	delivery := make([]byte, wire.RelayDeliveryLen(128))
	b.ReportAllocs()
	for b.Loop() {
		for _, leg := range []struct {
			from, to *clientV1
			frame    []byte
		}{{c, other, request}, {other, c, reply}} {
			leg.from.send(leg.frame)
			if _, err := io.ReadFull(leg.to, delivery); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkList requests the list of the other clients.
func BenchmarkList(b *testing.B) {
	for _, clients := range []int{10, 2000} {
		b.Run(fmt.Sprintf("of %d", clients), func(b *testing.B) {
			h := start(b, hub.Config{})
			for range clients {
				h.connect(b)
			}
			eventually(b, "all connected", func() bool { return h.Stats().Clients == clients })
			c := h.connectV1(b)
			reply := make([]byte, wire.ListLen(clients))
			b.ReportAllocs()
			for b.Loop() {
				c.send(wire.AppendListRequest(nil))
				if _, err := io.ReadFull(c, reply); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
