package socket

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// idleMemory returns the bytes of heap and stacks that each of n Readers takes while it waits.
func idleMemory(t *testing.T, n int, mark func(net.Conn) net.Conn) int {
	var before, after runtime.MemStats
	ends := make([]net.Conn, n)
	for i := range ends {
		ends[i], _ = openTCP(t)
	}
	conns, config := make([]*Conn, n), readerConfig()
	var readers sync.WaitGroup
	runtime.GC()
	runtime.GC() // the second empties the pools
	runtime.ReadMemStats(&before)
	for i, near := range ends {
		conns[i] = New(mark(near), config, nopHandler{})
		readers.Go(func() { _ = conns[i].Fill() }) // ends with the connection
	}
	waitUntil(t, "all Readers wait", func() bool {
		for _, c := range conns {
			if c.WaitSeq()%2 == 0 {
				return false
			}
		}
		return true
	})
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	for _, c := range conns {
		c.Close()
	}
	readers.Wait()
	return int(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse) / n
}

// TestWebSocket_Idle_Memory compares an idle WebSocket with an idle TCP connection.
func TestWebSocket_Idle_Memory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory")
	}
	const conns, maxMore, tries = 500, 410, 4 // 0.4 KiB
	asTCP := func(nc net.Conn) net.Conn { return nc }
	idleMemory(t, conns, asTCP) // the runtime adapts the size of new stacks to those that it has seen
	for try := 1; ; try++ {     // the rest of the process takes memory meanwhile
		plain, web := idleMemory(t, conns, asTCP), idleMemory(t, conns, NewWebSocket)
		t.Logf("%d bytes over TCP, %d as a WebSocket", plain, web)
		if web-plain <= maxMore {
			return
		}
		if try == tries {
			t.Fatalf("an idle WebSocket takes more than %d bytes more", maxMore)
		}
	}
}

// processorTime returns the processor time of this process.
func processorTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkWebSocket_Write compares the processor time of writing over a WebSocket and over its
// inner transport. The peer takes no frames apart, so that its part is the same.
func BenchmarkWebSocket_Write(b *testing.B) {
	for _, size := range []int{128, 10 << 10, 1 << 20} {
		for _, tr := range []testTransport{tcp, overWebSocket, overTLS, secureWebSocket} {
			b.Run(fmt.Sprint(size, "/", tr.name), func(b *testing.B) {
				tc := newTestConn(b, tr, Config{Outbox: outbox.Config{MaxBytes: 256 << 10}})
				far := tc.far
				if client, ok := far.(*webSocketClient); ok {
					far = client.Conn
				}
				done, sink := make(chan struct{}), make([]byte, 64<<10)
				go func() { // ends with the connection
					defer close(done)
					for err := error(nil); err == nil; {
						_, err = far.Read(sink)
					}
				}()
				fl, batch := tc.newFlusher(), tc.newBatch(frame(size))
				begin := processorTime(b)
				for b.Loop() {
					if tc.Offer(batch, fl) == outbox.Blocked {
						fl.Wait(nil)
					}
				}
				fl.Reset()
				tc.Drain(nil)
				b.ReportMetric(float64(processorTime(b)-begin)/float64(b.N), "cpu-ns/op")
				batch.Buffer.Release()
				tc.Close()
				tc.Wait()
				<-done
			})
		}
	}
}

// BenchmarkWebSocket_Read compares the processor time of reading. The client has masked its
// messages beforehand, each with one frame of the hub.
func BenchmarkWebSocket_Read(b *testing.B) {
	for _, size := range []int{128, 10 << 10, 1 << 20} {
		for _, tr := range []testTransport{tcp, overWebSocket} {
			b.Run(fmt.Sprint(size, "/", tr.name), func(b *testing.B) {
				near, far := tr.open(b)
				message := frame(size)
				if client, ok := far.(*webSocketClient); ok {
					far, message = client.Conn, clientFrame(ws.OpBinary, true, message)
				}
				batch, done := bytes.Repeat(message, max(1, readSize/size)), make(chan struct{})
				go func() { // ends when the connection is closed
					defer close(done)
					for err := error(nil); err == nil; {
						_, err = far.Write(batch)
					}
				}()
				c := New(near, readerConfig(), nopHandler{})
				begin := processorTime(b)
				for b.Loop() {
					for _, ok, _ := readNext(c); !ok; _, ok, _ = readNext(c) {
						if err := c.Fill(); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.ReportMetric(float64(processorTime(b)-begin)/float64(b.N), "cpu-ns/op")
				c.ReleaseAll()
				near.Close()
				<-done
			})
		}
	}
}
