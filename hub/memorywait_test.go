package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// memoryCase is a hub with settings that are allowed, and clients that send each other the largest
// bodies there may be.
type memoryCase struct {
	body, memory int
	clients      int // each sends to all, itself included
	level        wire.Level
	versions     [2]int // of those with an even number, and of the others
}

func (c memoryCase) String() string {
	return fmt.Sprintf("body %d, memory %d, %d clients of versions %d and %d, level %d", c.body, c.memory, c.clients, c.versions[0], c.versions[1], c.level)
}

// memoryCases combines all settings. Memory is the least that is allowed, one where a body is just above the share of
// its sender, one where it is just below, and plenty.
func memoryCases() (cases []memoryCase) {
	bodies := []int{64 << 10, 200_000, wire.DefaultMaxBody}
	if raceEnabled { // what the sizes have in common is the same there, and copying takes ten times as long
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

// TestHub_AllowedMemory_DeliversLargestBodies holds the hub to what its check of a configuration says: a message that
// finds room in it comes to its receivers, soon, whatever else its sender waits for.
func TestHub_AllowedMemory_DeliversLargestBodies(t *testing.T) {
	for _, c := range memoryCases() {
		synctest.Test(t, func(t *testing.T) { c.run(t) })
		if t.Failed() {
			t.Fatalf("with %v", c)
		}
	}
}

// TestHub_BodiesAboveShare_AreDelivered has those of 8 MiB at the memory that is the default.
func TestHub_BodiesAboveShare_AreDelivered(t *testing.T) {
	for level := wire.LevelNone; level <= wire.LevelProcessed; level++ {
		synctest.Test(t, func(t *testing.T) {
			memoryCase{8 << 20, hub.DefaultMaxQueuedBytes, 2, level, [2]int{2, 2}}.run(t)
		})
	}
}

const largeMessagesPerClient = 3 // from each client, all large

func (c memoryCase) run(t *testing.T) {
	ln := newPipeListener()
	h := startOn(t, hub.Config{MaxBody: c.body, MaxQueuedBytes: int64(c.memory)}, ln)
	if c.versions[0] != c.versions[1] {
		h.config.MaxQueuedBytes *= 2 // of bodies there may be two forms then
	}
	var clients []*client.Client
	var ids []uint64
	var delivered, reported atomic.Int64
	for i := range c.clients {
		options := client.Options{Version: c.versions[i%2], MaxBody: c.body, OnMessage: func(m client.Message) {
			if len(m.Body) == c.body {
				delivered.Add(1)
				m.Ack()
			} // the verdict on what is little does not come
		}}
		clients = append(clients, dialPipeClient(t, ln, &options))
		ids = append(ids, clients[i].ID())
	}
	began := time.Now()
	for _, cl := range clients {
		background(t, func() error { return c.send(t.Context(), cl, ids, &reported) })
	}
	wantDelivered, wantReported := int64(c.clients*c.clients*largeMessagesPerClient), c.wantReports()
	for delivered.Load() < wantDelivered || reported.Load() < wantReported {
		if time.Since(began) > 10*time.Second {
			t.Errorf("after %v %d of %d have come, %d of %d are reported", time.Since(began), delivered.Load(), wantDelivered, reported.Load(), wantReported)
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	for _, cl := range clients {
		_ = cl.Close() // says what has not left, which is told of above
	}
}

// wantReports returns how many are to come of the large messages.
func (c memoryCase) wantReports() (n int64) {
	for i := range c.clients {
		if c.versions[i%2] == 2 && c.level != wire.LevelNone {
			n += largeMessagesPerClient
		}
	}
	return n
}

// send sends a small message whose report has to wait, one whose report comes at once, and the large ones.
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
		if err != nil && !errors.Is(err, client.ErrClosed) { // that it stands still is told of elsewhere
			return err
		}
	}
	return nil
}

// dialPipeClient connects a client of the project's own through a pipe.
func dialPipeClient(t *testing.T, ln *pipeListener, options *client.Options) *client.Client {
	t.Helper()
	options.Dial = func(context.Context) (net.Conn, error) { return ln.dial(t), nil }
	c, err := client.Dial(t.Context(), "hub://hub", options)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// memoryWaiter is a client whose message waits for memory that nobody gives back.
type memoryWaiter struct {
	*testHub
	ln *pipeListener
	*clientV2
}

// withMemoryWaiter runs f beside one, in virtual time, for each way to wait for memory.
func withMemoryWaiter(t *testing.T, f func(t *testing.T, w *memoryWaiter)) {
	for name, body := range map[string]int{"a frame": 300_000, "a message in a run": 20_000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener()
				h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: time.Hour, FrameTimeout: time.Hour}, ln)
				frame := wire.AppendRelay(nil, []uint64{99}, make([]byte, wire.DefaultMaxBody))
				for range 3 { // as many as there is memory for
					connectPipe(t, ln).send(frame[:100_000])
				}
				first := connectPipe(t, ln)
				background(t, func() error { // waits, so that whoever comes later does as well; ends with the connection
					_, _ = first.Write(frame)
					return nil
				})
				synctest.Wait() // for that, and not for who is faster
				w := &memoryWaiter{testHub: h, ln: ln, clientV2: handshakeV2(connectPipe(t, ln), wire.Hello{Version: wire.Version2})}
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

// TestSession_Resume_EndsMemoryWait has the client come back while its message waits.
func TestSession_Resume_EndsMemoryWait(t *testing.T) {
	withMemoryWaiter(t, func(t *testing.T, w *memoryWaiter) {
		began := time.Now()
		drained := make(chan struct{})
		background(t, func() error { // one who listens is told at once why it has to go
			defer close(drained)
			_, _ = io.Copy(io.Discard, w)
			return nil
		})
		back := handshakeV2(connectPipe(t, w.ln), wire.Hello{Version: wire.Version2, ID: w.ID, Resume: w.Resume})
		if took := time.Since(began); !back.Resumed || back.Seq != 0 || took > 100*time.Millisecond {
			t.Errorf("came back after %v as %+v", took, back.Welcome)
		}
		<-drained
	})
}

// TestSession_Resume_IsFastWhenOldConnIsNotRead has it come back while nobody reads what the hub says on the old connection.
func TestSession_Resume_IsFastWhenOldConnIsNotRead(t *testing.T) {
	withMemoryWaiter(t, func(t *testing.T, w *memoryWaiter) {
		began := time.Now()
		back := handshakeV2(connectPipe(t, w.ln), wire.Hello{Version: wire.Version2, ID: w.ID, Resume: w.Resume})
		if took := time.Since(began); !back.Resumed || took > 2*time.Second {
			t.Errorf("came back after %v as %+v", took, back.Welcome)
		}
	})
}

// TestSession_Resume_KeepsIDWhenOldConnIsBusy has the session before be busy for longer than whoever comes back waits for it.
func TestSession_Resume_KeepsIDWhenOldConnIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const busy = 5 * time.Second
		ln := newPipeListener()
		startOn(t, hub.Config{TraceSampleRate: 1, OnTrace: func(hub.Trace) bool { <-time.After(busy); return true }}, ln)
		hello := wire.Hello{Version: wire.Version2}
		c := handshakeV2(connectPipe(t, ln), hello)
		c.sendMessage(nil, 0, 0, 999) // about nobody it is told at once
		hello.ID, hello.Resume = c.ID, c.Resume
		began := time.Now()
		early := &clientV2{clientV1: connectPipe(t, ln)}
		early.send(wire.AppendHello(nil, &hello))
		if away := early.expectGoAway(wire.GoAwayBusy); !away.Reconnect {
			t.Error("is not asked to come again")
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("told so after %v", took)
		}
		<-time.After(busy)
		if back := handshakeV2(connectPipe(t, ln), hello); !back.Resumed || back.Seq != 1 {
			t.Errorf("came back as %+v", back.Welcome)
		}
	})
}

// TestKeepAlive_EndsMemoryWait has the client be gone without a word.
func TestKeepAlive_EndsMemoryWait(t *testing.T) {
	withMemoryWaiter(t, func(t *testing.T, w *memoryWaiter) {
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(io.Discard, w) }) // what the kernel of one who is gone takes; ends with the connection
		began := time.Now()
		wg.Wait()
		if took, maxWait := time.Since(began), 5*hub.DefaultKeepAlive/2; took > maxWait {
			t.Errorf("given up after %v, at most %v", took, maxWait)
		}
		synctest.Wait() // it is detached when that is done
		if info, known := w.Client(w.id); !known || !info.Detached {
			t.Errorf("detached: %v, listed: %v", info.Detached, known)
		}
		<-time.After(hub.DefaultResumeWindow + time.Second)
		if _, known := w.Client(w.id); known {
			t.Error("one who is gone is listed")
		}
	})
}

// TestDisconnect_EndsMemoryWait has the operator end it.
func TestDisconnect_EndsMemoryWait(t *testing.T) {
	withMemoryWaiter(t, func(t *testing.T, w *memoryWaiter) {
		began := time.Now()
		w.Disconnect(w.id, false)
		w.expectGoAway(wire.GoAwayDisconnected)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("told after %v", took)
		}
	})
}

// TestShutdown_EndsMemoryWaits of clients of both versions.
func TestShutdown_EndsMemoryWaits(t *testing.T) {
	withMemoryWaiter(t, func(t *testing.T, w *memoryWaiter) {
		v1 := connectPipe(t, w.ln)
		background(t, func() error { // ends with the connection
			_, _ = v1.Write(wire.AppendRelay(nil, []uint64{99}, make([]byte, wire.DefaultMaxBody)))
			return nil
		})
		<-time.After(time.Second)
		began := time.Now()
		background(t, func() error { return w.Shutdown(context.WithoutCancel(t.Context())) })
		w.withholdsAcks = true // it may get the message, if others are told first
		for kind, _ := w.nextFrame(); kind != wire.TypeGoAway; kind, _ = w.nextFrame() {
		}
		v1.expectEOF()
		if took := time.Since(began); took > time.Second {
			t.Errorf("Shutdown took %v", took)
		}
	})
}
