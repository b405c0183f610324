package hub_test

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

func TestKeepAlive_SilentConn_TimesOut(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{KeepAlive: 50 * time.Millisecond, ResumeWindow: 10 * time.Millisecond})
		v1 := h.connectV1(t)
		for n := range uint64(3) {
			c := h.connectV2(t)
			if kind, _ := c.mustReadFrame(); kind != wire.TypePing {
				t.Fatalf("a frame of type %#x, want PING", kind)
			}
			h.waitDisconnected(t, hub.CloseTimeout, n+1)
		}
		v1.fence() // a client of version 1 can be silent for any time
	})
}

// TestKeepAlive_WebSocketPings_AreSilence has a client send Pings of WebSocket, as a library does
// whose program hangs. Only frames of the protocol show that the program is alive.
func TestKeepAlive_WebSocketPings_AreSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startWebSocketInMemory(t, hub.Config{KeepAlive: time.Second, ResumeWindow: time.Millisecond})
		c := h.upgrade(t)
		handshakeV2(c.stream, wire.Hello{Version: wire.Version2})
		begin := time.Now()
		for h.Stats().Disconnected[hub.CloseTimeout] == 0 {
			if time.Since(begin) > 10*time.Second {
				t.Fatal("the connection stays open")
			}
			_, _ = c.Write(maskedFrame(0x89, []byte("ping"))) // fails once the hub has closed the connection
			<-time.After(100 * time.Millisecond)
		}
		if took := time.Since(begin); took < 2*time.Second || took > 4*time.Second {
			t.Errorf("it took %v, want two intervals", took)
		}
	})
}

// TestKeepAlive_RateLimitedTime_IsNotSilence rate-limits a client for longer than two
// keep-alive intervals. The hub does not read the client's PONGs meanwhile and must not close
// the connection. Once the hub reads again and the client is silent, the connection times out.
func TestKeepAlive_RateLimitedTime_IsNotSilence(t *testing.T) {
	onMemoryTransports(t, func(t *testing.T, start startFunc) {
		h := start(t, hub.Config{ByteRate: 20 << 10, KeepAlive: time.Second})
		c := h.connectHello(t, wire.Hello{Version: wire.Version2})
		defer c.Close() // ends the background goroutines
		frames, stop := make(chan []byte, 1000), make(chan struct{})
		// The goroutine writes in order, as a kernel does, and ends with the connection or with
		// stop.
		background(t, func() error {
			for {
				select {
				case frame := <-frames:
					if _, err := c.Write(frame); err != nil {
						return nil
					}
				case <-stop:
					return nil
				}
			}
		})
		background(t, func() error { // ends with the connection
			for kind, payload, err := c.readFrame(); err == nil; kind, payload, err = c.readFrame() {
				if n, _ := wire.ParseUint64(payload); kind == wire.TypePing {
					frames <- wire.AppendPong(nil, n)
				}
			}
			return nil
		})
		for seq := range uint64(3) { // each takes 10 s at this rate
			frames <- wire.AppendSend(nil, 1+seq, 0, 0, []uint64{12345}, make([]byte, 200<<10))
		}
		<-time.After(60 * time.Second)
		if stats := h.Stats(); stats.RateLimited == 0 || stats.Disconnected[hub.CloseTimeout] > 0 || stats.Resumed > 0 {
			t.Errorf("rate-limited %d times, timed out %d times", stats.RateLimited, stats.Disconnected[hub.CloseTimeout])
		}
		if info, ok := h.Client(c.id); !ok || info.Detached {
			t.Error("the connection timed out while the hub did not read it")
		}
		close(stop)
		<-time.After(10 * time.Second)
		if info, ok := h.Client(c.id); ok && !info.Detached {
			t.Error("a silent connection did not time out")
		}
	})
}

// TestKeepAlive_EndsMemoryWait has the client vanish without closing its connection. The
// connection times out and the session is detached.
func TestKeepAlive_EndsMemoryWait(t *testing.T) {
	withMemoryWaiter(t, func(t *testing.T, w *memoryWaiter) {
		var wg sync.WaitGroup
		// The goroutine reads as the kernel of a vanished client does, and ends with the
		// connection.
		wg.Go(func() { _, _ = io.Copy(io.Discard, w) })
		began := time.Now()
		wg.Wait()
		if took, maxWait := time.Since(began), 5*hub.DefaultKeepAlive/2; took > maxWait {
			t.Errorf("timed out after %v, want at most %v", took, maxWait)
		}
		synctest.Wait() // the session is detached by then
		if info, known := w.Client(w.id); !known || !info.Detached {
			t.Errorf("detached: %v, listed: %v", info.Detached, known)
		}
		<-time.After(hub.DefaultResumeWindow + time.Second)
		if _, known := w.Client(w.id); known {
			t.Error("the session is registered after the resume window")
		}
	})
}
