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

// moveCase is a hub with settings that are allowed, and clients that send each other the largest
// bodies there may be.
type moveCase struct {
	body, memory int
	clients      int // each sends to all, itself included
	level        wire.Level
	versions     [2]int // of those with an even number, and of the others
}

func (c moveCase) String() string {
	return fmt.Sprintf("body %d, memory %d, %d clients of versions %d and %d, level %d", c.body, c.memory, c.clients, c.versions[0], c.versions[1], c.level)
}

// moveCases combines all settings. Memory is the least that is allowed, one where a body is just above the share of
// its sender, one where it is just below, and plenty.
func moveCases() (all []moveCase) {
	bodies := []int{64 << 10, 200_000, wire.DefaultMaxBody}
	if raceEnabled { // what the sizes have in common is the same there, and copying takes ten times as long
		bodies = bodies[1:2]
	}
	for _, body := range bodies {
		least := int(hub.LeastQueuedBytes(body))
		for _, memory := range []int{least, 7 * least / 4, 64*body/7 + 64<<10, 10 * least} {
			for _, clients := range []int{1, 2, 3} {
				for _, versions := range [][2]int{{1, 1}, {1, 2}, {2, 1}, {2, 2}} {
					for level := wire.LevelNone; level <= wire.LevelProcessed; level++ {
						if versions == [2]int{1, 1} && level > 0 {
							continue
						}
						all = append(all, moveCase{body, max(memory, least), clients, level, versions})
					}
				}
			}
		}
	}
	return all
}

// TestHub_MovesEveryMessageThatItsSettingsAllow holds the hub to what its check of a configuration says: a message that
// finds room in it comes to its receivers, soon, whatever else its sender waits for.
func TestHub_MovesEveryMessageThatItsSettingsAllow(t *testing.T) {
	for _, c := range moveCases() {
		synctest.Test(t, func(t *testing.T) { c.run(t) })
		if t.Failed() {
			t.Fatalf("with %v", c)
		}
	}
}

// TestHub_MovesBodiesAboveAShare has those of 8 MiB at the memory that is the default.
func TestHub_MovesBodiesAboveAShare(t *testing.T) {
	for level := wire.LevelNone; level <= wire.LevelProcessed; level++ {
		synctest.Test(t, func(t *testing.T) {
			moveCase{8 << 20, hub.DefaultMaxQueuedBytes, 2, level, [2]int{2, 2}}.run(t)
		})
	}
}

const moveMessages = 3 // from each client, all large

func (c moveCase) run(t *testing.T) {
	ln := newPipes()
	h := startOn(t, hub.Config{MaxBody: c.body, MaxQueuedBytes: int64(c.memory)}, ln)
	if c.versions[0] != c.versions[1] {
		h.config.MaxQueuedBytes *= 2 // of bodies there may be two forms then
	}
	var clients []*client.Client
	var ids []uint64
	var came, reported atomic.Int64
	for i := range c.clients {
		options := client.Options{Version: c.versions[i%2], MaxBody: c.body, OnMessage: func(m client.Message) {
			if len(m.Body) == c.body {
				came.Add(1)
				m.Done()
			} // the verdict on what is little does not come
		}}
		clients = append(clients, dialVirtual(t, ln, &options))
		ids = append(ids, clients[i].ID())
	}
	began := time.Now()
	for _, one := range clients {
		background(t, func() error { return c.send(t.Context(), one, ids, &reported) })
	}
	all, want := int64(c.clients*c.clients*moveMessages), c.reports()
	for came.Load() < all || reported.Load() < want {
		if time.Since(began) > 10*time.Second {
			t.Errorf("after %v %d of %d have come, %d of %d are reported", time.Since(began), came.Load(), all, reported.Load(), want)
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	for _, one := range clients {
		_ = one.Close() // says what has not left, which is told of above
	}
}

// reports returns how many are to come of the large messages.
func (c moveCase) reports() (n int64) {
	for i := range c.clients {
		if c.versions[i%2] == 2 && c.level != wire.LevelNone {
			n += moveMessages
		}
	}
	return n
}

// send sends a small message whose report has to wait, one whose report comes at once, and the large ones.
func (c moveCase) send(ctx context.Context, one *client.Client, to []uint64, reported *atomic.Int64) error {
	if one.Version() == 2 {
		processed := &client.SendOptions{Level: wire.LevelProcessed}
		nothing := func(*client.Report, error) {}
		err := errors.Join(one.SendFunc(ctx, to, nil, processed, nothing), one.SendFunc(ctx, []uint64{999}, nil, processed, nothing))
		if err != nil {
			return err
		}
	}
	for i := range moveMessages {
		var err error
		if one.Version() == 2 && c.level != wire.LevelNone {
			err = one.SendFunc(ctx, to, pattern(c.body, byte(i)), &client.SendOptions{Level: c.level}, func(_ *client.Report, err error) {
				if err == nil {
					reported.Add(1)
				}
			})
		} else {
			err = one.Send(ctx, to, pattern(c.body, byte(i)))
		}
		if err != nil && !errors.Is(err, client.ErrClosed) { // that it stands still is told of elsewhere
			return err
		}
	}
	return nil
}

// dialVirtual connects a client of the project's own through a pipe.
func dialVirtual(t *testing.T, ln *pipes, options *client.Options) *client.Client {
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
	ln *pipes
	*guest
}

// waitForMemory runs f beside one, in virtual time, for each way to wait for memory.
func waitForMemory(t *testing.T, f func(t *testing.T, w *memoryWaiter)) {
	for name, body := range map[string]int{"a frame": 300_000, "a message in a run": 20_000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipes()
				h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: time.Hour, FrameTimeout: time.Hour}, ln)
				frame := wire.AppendRelay(nil, []uint64{99}, make([]byte, wire.DefaultMaxBody))
				for range 3 { // as many as there is memory for
					virtual(t, ln).send(frame[:100_000])
				}
				first := virtual(t, ln)
				background(t, func() error { // waits, so that whoever comes later does as well; ends with the connection
					_, _ = first.Write(frame)
					return nil
				})
				synctest.Wait() // for that, and not for who is faster
				w := &memoryWaiter{testHub: h, ln: ln, guest: greet(virtual(t, ln), wire.Hello{Version: wire.Version2})}
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

// TestSession_ResumeEndsItsWaitForMemory has the client come back while its message waits.
func TestSession_ResumeEndsItsWaitForMemory(t *testing.T) {
	waitForMemory(t, func(t *testing.T, w *memoryWaiter) {
		began := time.Now()
		taken := make(chan struct{})
		background(t, func() error { // one who listens is told at once why it has to go
			defer close(taken)
			_, _ = io.Copy(io.Discard, w)
			return nil
		})
		back := greet(virtual(t, w.ln), wire.Hello{Version: wire.Version2, ID: w.ID, Resume: w.Resume})
		if took := time.Since(began); !back.Resumed || back.Seq != 0 || took > 100*time.Millisecond {
			t.Errorf("came back after %v as %+v", took, back.Welcome)
		}
		<-taken
	})
}

// TestSession_ResumeDoesNotOutlastAnAttempt has it come back while nobody reads what the hub says on the old connection.
func TestSession_ResumeDoesNotOutlastAnAttempt(t *testing.T) {
	waitForMemory(t, func(t *testing.T, w *memoryWaiter) {
		began := time.Now()
		back := greet(virtual(t, w.ln), wire.Hello{Version: wire.Version2, ID: w.ID, Resume: w.Resume})
		if took := time.Since(began); !back.Resumed || took > 2*time.Second {
			t.Errorf("came back after %v as %+v", took, back.Welcome)
		}
	})
}

// TestSession_ResumeKeepsTheIDOfOneThatIsBusy has the session before be busy for longer than whoever comes back waits for it.
func TestSession_ResumeKeepsTheIDOfOneThatIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const busy = 5 * time.Second
		ln := newPipes()
		startOn(t, hub.Config{TraceOneIn: 1, Trace: func(hub.Trace) bool { <-time.After(busy); return true }}, ln)
		hello := wire.Hello{Version: wire.Version2}
		g := greet(virtual(t, ln), hello)
		g.tell(nil, 0, 0, 999) // about nobody it is told at once
		hello.ID, hello.Resume = g.ID, g.Resume
		began := time.Now()
		early := &guest{peer: virtual(t, ln)}
		early.send(wire.AppendHello(nil, &hello))
		if away := early.sentAway(wire.GoAwayBusy); !away.Reconnect {
			t.Error("is not asked to come again")
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("told so after %v", took)
		}
		<-time.After(busy)
		if back := greet(virtual(t, ln), hello); !back.Resumed || back.Seq != 1 {
			t.Errorf("came back as %+v", back.Welcome)
		}
	})
}

// TestSession_KeepAliveEndsItsWaitForMemory has the client be gone without a word.
func TestSession_KeepAliveEndsItsWaitForMemory(t *testing.T) {
	waitForMemory(t, func(t *testing.T, w *memoryWaiter) {
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = io.Copy(io.Discard, w) }) // what the kernel of one who is gone takes; ends with the connection
		began := time.Now()
		reading.Wait()
		if took, most := time.Since(began), 5*hub.DefaultKeepAlive/2; took > most {
			t.Errorf("given up after %v, at most %v", took, most)
		}
		synctest.Wait() // it is detached when that is done
		if i, known := w.Client(w.id); !known || !i.Detached {
			t.Errorf("detached: %v, listed: %v", i.Detached, known)
		}
		<-time.After(hub.DefaultResumeWindow + time.Second)
		if _, known := w.Client(w.id); known {
			t.Error("one who is gone is listed")
		}
	})
}

// TestSession_DisconnectEndsItsWaitForMemory has the operator end it.
func TestSession_DisconnectEndsItsWaitForMemory(t *testing.T) {
	waitForMemory(t, func(t *testing.T, w *memoryWaiter) {
		began := time.Now()
		w.Disconnect(w.id, false)
		w.sentAway(wire.GoAwayDisconnected)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("told after %v", took)
		}
	})
}

// TestHub_ShutdownEndsWaitsForMemory of clients of both versions.
func TestHub_ShutdownEndsWaitsForMemory(t *testing.T) {
	waitForMemory(t, func(t *testing.T, w *memoryWaiter) {
		classic := virtual(t, w.ln)
		background(t, func() error { // ends with the connection
			_, _ = classic.Write(wire.AppendRelay(nil, []uint64{99}, make([]byte, wire.DefaultMaxBody)))
			return nil
		})
		<-time.After(time.Second)
		began := time.Now()
		background(t, func() error { return w.Shutdown(context.WithoutCancel(t.Context())) })
		w.mute = true // it may get the message, if others are told first
		for kind, _ := w.read(); kind != wire.TypeGoAway; kind, _ = w.read() {
		}
		classic.closed()
		if took := time.Since(began); took > time.Second {
			t.Errorf("Shutdown took %v", took)
		}
	})
}
