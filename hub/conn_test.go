package hub_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

func TestConn_IdleBetweenFrames_NeverTimesOut(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		c := h.connect(t)
		c.fencePromptly()
		for range 3 {
			<-time.After(100 * time.Hour)
			c.fencePromptly()
		}
		if n := h.Stats().Clients; n != 1 {
			t.Errorf("%d clients, want the idle one", n)
		}
	})
}

const (
	idleConns = 300

	// maxIdleStack is the limit of stack memory per idle connection, in bytes. It lies between
	// the stack of a new goroutine, 2 KiB plus what the runtime cannot reuse of freed stacks, and
	// the 4 KiB of a goroutine that has handled a frame.
	maxIdleStack = 3300

	// maxIdleHeapV1 and maxIdleHeapV2 are the limits of heap memory per idle connection of
	// version 1 and version 2, in bytes. They include 800 bytes of the client's end and of the
	// test, but not the goroutine. With the goroutine, its stack, the state of the poller and the
	// runtime's own overhead, they make up what docs/BENCHMARKS.md promises: see
	// docs/decisions/0017. Measured values are 1,780 to 2,135 and 2,395 to 2,460.
	// TestConn_StructSizes_FitSizeClasses is stricter.
	maxIdleHeapV1 = 2400
	maxIdleHeapV2 = 2800

	// maxWaitingStack is the limit of the part of its stack that a waiting goroutine uses, in
	// bytes. The runtime starts goroutines with stacks of 2,048 bytes while the average part that
	// all use is at most 2,048 - 928 (gcComputeStartingStackSize and stackGuard in package
	// runtime). Above that, each new goroutine gets 4 KiB.
	maxWaitingStack = 1024
)

// heapInUse returns the number of bytes of live heap objects.
func heapInUse() float64 {
	for range 2 { // a pool keeps its entries through one collection
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// stackInUse returns the number of bytes of stacks in use, with what goroutines that have ended
// since the last garbage collection have left.
func stackInUse() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.StackInuse)
}

// stackUsed returns the number of bytes on all stacks that the last garbage collection has
// scanned: the used parts.
func stackUsed() float64 {
	sample := []metrics.Sample{{Name: "/gc/scan/stack:bytes"}}
	metrics.Read(sample)
	return float64(sample[0].Value.Uint64())
}

// startGoroutines runs n goroutines at once. The runtime keeps what it has allocated for them
// and reuses it for later goroutines, but counts it as heap in use.
func startGoroutines(n int) {
	var wg sync.WaitGroup
	release := make(chan struct{})
	for range n {
		wg.Go(func() { <-release })
	}
	close(release)
	wg.Wait()
}

func requestIdentity(t *testing.T, c *clientV1) {
	t.Helper()
	c.send(wire.AppendIdentityRequest(nil))
	c.id = c.readIdentity()
}

func sayHello(t *testing.T, c *clientV1) {
	t.Helper()
	handshakeV2(c, wire.Hello{Version: wire.Version2})
}

func pingFiveTimes(t *testing.T, c *clientV1) {
	t.Helper()
	sayHello(t, c)
	for range 5 {
		c.send(wire.AppendPing(nil, 1))
		for typ := wire.Type(0); typ != wire.TypePong; {
			typ, _ = c.mustReadFrame()
		}
	}
}

// leaveUnacked sends 40 messages to the client itself, one after the other, and acknowledges them
// at the end.
func leaveUnacked(t *testing.T, c *clientV1) {
	t.Helper()
	v2 := handshakeV2(c, wire.Hello{Version: wire.Version2})
	v2.withholdsAcks = true
	body := make([]byte, 100)
	for range 40 {
		v2.expectDeliver(v2.id, v2.sendMessage(body, 0, 0, v2.id), body)
	}
	v2.send(wire.AppendAck(nil, v2.received))
}

// requestPage requests a page of the list, and reads it.
func requestPage(t *testing.T, c *clientV1) {
	t.Helper()
	sayHello(t, c)
	c.send(wire.AppendListRange(nil, wire.ListRange{}))
	if typ, _ := c.mustReadFrame(); typ != wire.TypeListPage {
		t.Errorf("the reply has type %v", typ)
	}
}

// TestConn_IdleMemory connects clients that send something and then nothing, and measures the
// memory of each connection. A connection must hold the memory for a frame only while it
// handles a frame.
func TestConn_IdleMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("frames are larger under the race detector")
	}
	startGoroutines(4 * idleConns)
	for _, test := range []struct {
		name string
		say  func(*testing.T, *clientV1)
		heap float64
	}{
		{"nothing", func(*testing.T, *clientV1) {}, maxIdleHeapV1},
		{"version 1, one request", requestIdentity, maxIdleHeapV1},
		{"version 1, many requests", func(t *testing.T, c *clientV1) {
			for range 5 {
				requestIdentity(t, c)
			}
		}, maxIdleHeapV1},
		{"version 1, a message", func(_ *testing.T, c *clientV1) {
			c.send(wire.AppendIdentityRequest(nil))
			c.relay(make([]byte, 100_000), c.readIdentity())
			c.mustReadFrame()
		}, maxIdleHeapV1},
		{"version 2, HELLO", sayHello, maxIdleHeapV2},
		{"version 2, many requests", pingFiveTimes, maxIdleHeapV2},
		{"version 2, messages", leaveUnacked, maxIdleHeapV2},
		{"version 2, a list", requestPage, maxIdleHeapV2},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := start(t, hub.Config{})
			conns := make([]*clientV1, 0, idleConns)
			test.say(t, h.connect(t)) // creates what the hub needs once
			for range idleConns {
				// The runtime gives new goroutines stacks of the average size at the last garbage
				// collection. With thousands of waiting goroutines, that is their size.
				h.connect(t)
			}
			heap, stack := heapInUse(), stackInUse()
			for range idleConns {
				c := h.connect(t)
				test.say(t, c)
				conns = append(conns, c)
			}
			eventually(t, "all goroutines have stacks of the initial size", func() bool {
				return (stackInUse()-stack)/idleConns < maxIdleStack
			})
			var each float64
			defer func() { t.Logf("%.0f bytes of heap per connection", each) }()
			eventually(t, fmt.Sprintf("at most %.0f bytes of heap per connection", test.heap), func() bool {
				each = (heapInUse() - heap) / idleConns
				return each <= test.heap
			})
			runtime.KeepAlive(conns)
		})
	}
}

// TestConn_IdleStack measures the stacks of clients that have said HELLO and more, over TCP, TLS
// and WebSockets: how large they are, and how much of them is in use. The runtime allocates stacks
// in pieces of 32 KiB: a few stacks of 4 KiB among 1,000 of 2 KiB already exceed the limit.
func TestConn_IdleStack(t *testing.T) {
	if raceEnabled {
		t.Skip("frames are larger under the race detector")
	}
	const conns, maxStack = 1000, 2400
	startGoroutines(4 * idleConns)
	type connectFunc func(*testing.T) net.Conn
	startPlain := func(t *testing.T) connectFunc {
		h := start(t, hub.Config{})
		return func(t *testing.T) net.Conn { return h.connect(t).Conn }
	}
	startSecure := func(t *testing.T) connectFunc {
		h, clientTLS := startTLS(t, withLongTimeouts(hub.Config{}))
		return func(t *testing.T) net.Conn { return tls.Client(h.connect(t).Conn, clientTLS) }
	}
	startWeb := func(tr testTransport) func(t *testing.T) connectFunc {
		return func(t *testing.T) connectFunc {
			h := tr.start(t, hub.Config{})
			return func(t *testing.T) net.Conn {
				nc, err := h.web.dialWebSocket(nil)
				if err != nil {
					t.Fatal(err)
				}
				return nc
			}
		}
	}
	for _, test := range []struct {
		name  string
		start func(*testing.T) connectFunc
	}{
		{"TCP", startPlain},
		{"TLS", startSecure},
		{"WebSocket", startWeb(overWebSocket)},
		{"WebSocket over TLS", startWeb(overSecureWebSocket)},
	} {
		t.Run(test.name, func(t *testing.T) {
			// A hub of its own: sessions of another test would end meanwhile.
			connect := test.start(t)
			silent := start(t, hub.Config{})
			for range idleConns - 1 { // as in TestConn_IdleMemory
				silent.connect(t)
			}
			silent.connectV1(t) // the hub has accepted all of them
			heapInUse()         // collects garbage
			used, stack := stackUsed(), stackInUse()
			for range conns {
				pingFiveTimes(t, newClientV1(t, connect(t)))
			}
			var each float64
			defer func() { t.Logf("a stack of %.0f bytes", each) }()
			eventually(t, fmt.Sprintf("stacks of %d bytes", maxStack), func() bool {
				heapInUse()
				each = (stackInUse() - stack) / conns
				return each <= maxStack
			})
			if each := (stackUsed() - used) / conns; each > maxWaitingStack {
				t.Errorf("a waiting goroutine uses %.0f bytes of its stack, want at most %d", each, maxWaitingStack)
			} else {
				t.Logf("a waiting goroutine uses %.0f bytes of its stack", each)
			}
		})
	}
}
