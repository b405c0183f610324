package hub_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// memoryCase is an allowed configuration of a hub, with clients that send each other bodies of
// the maximum length.
type memoryCase struct {
	body, memory int
	clients      int // each sends to all clients, itself included
	level        wire.Level
	versions     [2]int // of the clients with an even index, and of the others
}

func (c memoryCase) String() string {
	return fmt.Sprintf("body %d, memory %d, %d clients of versions %d and %d, level %d", c.body, c.memory, c.clients, c.versions[0], c.versions[1], c.level)
}

// memoryCases combines all settings. The memory is the minimum, a value for which a body is
// just above the share of its sender, a value for which it is just below, and ten times the
// minimum.
func memoryCases() (cases []memoryCase) {
	bodies := []int{64 << 10, 200_000, wire.DefaultMaxBody}
	if raceEnabled { // copying takes ten times as long, and the sizes behave alike there
		bodies = bodies[1:2]
	}
	for _, body := range bodies {
		minMemory := int(hub.MinQueuedBytes(body))
		for _, memory := range []int{minMemory, 7 * minMemory / 4, 64*body/7 + 64<<10, 10 * minMemory} {
			for _, clients := range []int{1, 2, 3} {
				for _, versions := range [][2]int{{1, 1}, {1, 2}, {2, 1}, {2, 2}} {
					for level := wire.LevelNone; level <= wire.LevelProcessed; level++ {
						if versions == [2]int{1, 1} && level > 0 {
							continue
						}
						cases = append(cases, memoryCase{body, max(memory, minMemory), clients, level, versions})
					}
				}
			}
		}
	}
	return cases
}

// TestHub_AllowedMemory_DeliversLargestBodies checks what Config.Validate promises: under each
// allowed configuration, a message of the maximum length reaches its receivers soon, even if its
// sender also waits for something else.
func TestHub_AllowedMemory_DeliversLargestBodies(t *testing.T) {
	for _, c := range memoryCases() {
		synctest.Test(t, func(t *testing.T) { c.run(t) })
		if t.Failed() {
			t.Fatalf("with %v", c)
		}
	}
}

// TestHub_BodiesAboveShare_AreDelivered sends bodies of 8 MiB with the default memory.
func TestHub_BodiesAboveShare_AreDelivered(t *testing.T) {
	for level := wire.LevelNone; level <= wire.LevelProcessed; level++ {
		synctest.Test(t, func(t *testing.T) {
			memoryCase{8 << 20, hub.DefaultMaxQueuedBytes, 2, level, [2]int{2, 2}}.run(t)
		})
	}
}

const largeMessagesPerClient = 3 // of the maximum length

func (c memoryCase) run(t *testing.T) {
	h := startInMemory(t, hub.Config{MaxBody: c.body, MaxQueuedBytes: int64(c.memory)})
	if c.versions[0] != c.versions[1] {
		h.config.MaxQueuedBytes *= 2 // the hub can then hold each body in the form of both versions
	}
	var clients []*client.Client
	var ids []uint64
	var delivered, reported atomic.Int64
	for i := range c.clients {
		options := client.Options{Version: c.versions[i%2], MaxBody: c.body, OnMessage: func(m client.Message) {
			if len(m.Body) == c.body {
				delivered.Add(1)
				m.Ack()
			} // small messages get no verdict
		}}
		clients = append(clients, h.dialWith(t, &options))
		ids = append(ids, clients[i].ID())
	}
	began := time.Now()
	for _, cl := range clients {
		background(t, func() error { return c.send(t.Context(), cl, ids, &reported) })
	}
	wantDelivered, wantReported := int64(c.clients*c.clients*largeMessagesPerClient), c.wantReports()
	for delivered.Load() < wantDelivered || reported.Load() < wantReported {
		if time.Since(began) > 10*time.Second {
			t.Errorf("after %v %d of %d are delivered, %d of %d are reported", time.Since(began), delivered.Load(), wantDelivered, reported.Load(), wantReported)
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	for _, cl := range clients {
		_ = cl.Close() // an error names unsent messages, which are reported above
	}
}

// wantReports returns the number of reports expected for the large messages.
func (c memoryCase) wantReports() (n int64) {
	for i := range c.clients {
		if c.versions[i%2] == 2 && c.level != wire.LevelNone {
			n += largeMessagesPerClient
		}
	}
	return n
}

// send sends a small message whose report has to wait, a small message whose report comes at
// once, and the large messages.
func (c memoryCase) send(ctx context.Context, cl *client.Client, to []uint64, reported *atomic.Int64) error {
	if cl.Version() == 2 {
		processed := &client.SendOptions{Level: wire.LevelProcessed}
		ignore := func(*client.Report, error) {}
		err := errors.Join(cl.SendFunc(ctx, to, nil, processed, ignore), cl.SendFunc(ctx, []uint64{999}, nil, processed, ignore))
		if err != nil {
			return err
		}
	}
	for i := range largeMessagesPerClient {
		var err error
		if cl.Version() == 2 && c.level != wire.LevelNone {
			err = cl.SendFunc(ctx, to, pattern(c.body, byte(i)), &client.SendOptions{Level: c.level}, func(_ *client.Report, err error) {
				if err == nil {
					reported.Add(1)
				}
			})
		} else {
			err = cl.Send(ctx, to, pattern(c.body, byte(i)))
		}
		if err != nil && !errors.Is(err, client.ErrClosed) { // run reports missing messages
			return err
		}
	}
	return nil
}

// memoryWaiter is a client whose message waits for memory that no other client frees.
type memoryWaiter struct {
	*testHub
	*clientV2
}

// withMemoryWaiter runs f with a memoryWaiter, in virtual time, for each way of waiting for
// memory.
func withMemoryWaiter(t *testing.T, f func(t *testing.T, w *memoryWaiter)) {
	for name, body := range map[string]int{"a frame": 300_000, "a message in a batch": 20_000} {
		t.Run(name, func(t *testing.T) {
			onMemoryTransports(t, func(t *testing.T, start startFunc) {
				h := start(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: time.Hour, FrameTimeout: time.Hour})
				frame := wire.AppendRelay(nil, []uint64{99}, make([]byte, wire.DefaultMaxBody))
				for range 3 { // as many as there is memory for
					h.connect(t).send(frame[:100_000])
				}
				synctest.Wait() // until they hold it
				first := h.connect(t)
				// first waits for memory, and later clients wait behind it. The goroutine ends with
				// the connection.
				background(t, func() error {
					_, _ = first.Write(frame)
					return nil
				})
				synctest.Wait() // until first waits: the order must be fixed
				w := &memoryWaiter{testHub: h, clientV2: h.connectHello(t, wire.Hello{Version: wire.Version2})}
				seq := w.seq + 1
				background(t, func() error { // ends with the connection
					_, _ = w.Write(wire.AppendSend(nil, seq, 0, 0, []uint64{w.id}, make([]byte, body)))
					return nil
				})
				<-time.After(time.Second)
				f(t, w)
				w.Close()
				first.Close()
			})
		})
	}
}

// TestDisconnect_EndsMemoryWait disconnects the client with Hub.Disconnect.
func TestDisconnect_EndsMemoryWait(t *testing.T) {
	withMemoryWaiter(t, func(t *testing.T, w *memoryWaiter) {
		began := time.Now()
		w.Disconnect(w.id, false)
		w.expectGoAway(wire.GoAwayDisconnected)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("GOAWAY after %v", took)
		}
	})
}

// TestShutdown_EndsMemoryWaits shuts down the hub while clients of both versions wait for
// memory.
func TestShutdown_EndsMemoryWaits(t *testing.T) {
	withMemoryWaiter(t, func(t *testing.T, w *memoryWaiter) {
		v1 := w.testHub.connect(t)
		background(t, func() error { // ends with the connection
			_, _ = v1.Write(wire.AppendRelay(nil, []uint64{99}, make([]byte, wire.DefaultMaxBody)))
			return nil
		})
		<-time.After(time.Second)
		began := time.Now()
		background(t, func() error { return w.Shutdown(context.WithoutCancel(t.Context())) })
		w.withholdsAcks = true // the client can get its message, if others are disconnected first
		for kind, _ := w.nextFrame(); kind != wire.TypeGoAway; kind, _ = w.nextFrame() {
		}
		v1.expectEOF()
		if took := time.Since(began); took > time.Second {
			t.Errorf("Shutdown took %v", took)
		}
	})
}
