package hub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// The tests of this file take place in virtual time: what the hub is told to wait
// it waits to the nanosecond, with its own defaults.

// inVirtualTime runs f beside a hub with the defaults, in memory.
func inVirtualTime(t *testing.T, f func(t *testing.T, h *testHub, ln *pipes)) {
	t.Helper()
	inVirtualTimeWith(t, hub.Config{}, f)
}

// inVirtualTimeWith is inVirtualTime for a hub with settings.
func inVirtualTimeWith(t *testing.T, config hub.Config, f func(t *testing.T, h *testHub, ln *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, config, ln)
		f(t, h, ln)
	})
}

// virtual connects a peer that waits as long as it takes.
func virtual(t *testing.T, ln *pipes) *peer {
	t.Helper()
	nc := ln.dial(t)
	t.Cleanup(func() { nc.Close() })
	return &peer{Conn: nc, t: t}
}

// answered asks for the id and fails unless it comes at once.
func (p *peer) answered() {
	p.t.Helper()
	began := time.Now()
	p.fence()
	if took := time.Since(began); took != 0 {
		p.t.Errorf("client %d: answered after %v", p.id, took)
	}
}

// named asks for the id and notes it.
func (p *peer) named() *peer {
	p.t.Helper()
	p.send(wire.AppendIdentityRequest(nil))
	p.id = p.identity()
	return p
}

func TestIdleBetweenFramesIsLegitimateForEver(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		p := virtual(t, ln)
		p.answered()
		for range 3 {
			<-time.After(1000 * time.Hour)
			p.answered()
		}
		if n := h.Stats().Clients; n != 1 {
			t.Errorf("%d clients, want the idle one", n)
		}
	})
}

// TestHalfFrameIsCutToTheMoment lets every part of a frame be the last that comes.
func TestHalfFrameIsCutToTheMoment(t *testing.T) {
	for part, bytes := range halves(2) {
		t.Run(part, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
				p, other := virtual(t, ln), virtual(t, ln)
				p.answered()
				<-time.After(time.Hour) // the time between frames does not count
				p.send(bytes)
				began := time.Now()
				p.closed()
				if took := time.Since(began); took != hub.DefaultFrameTimeout {
					t.Errorf("cut after %v, want %v", took, hub.DefaultFrameTimeout)
				}
				other.answered()
			})
		})
	}
}

// TestDrippingDoesNotSaveAHalfFrame sends a byte a second: the deadline is for the
// whole rest.
func TestDrippingDoesNotSaveAHalfFrame(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		p, other := virtual(t, ln), virtual(t, ln)
		frame := wire.AppendRelay(nil, []uint64{2}, make([]byte, 1000))
		began := time.Now()
		var err error
		for i := 0; err == nil; i++ {
			_, err = p.Write(frame[i : i+1])
			<-time.After(time.Second)
		}
		if took := time.Since(began); took < hub.DefaultFrameTimeout || took > hub.DefaultFrameTimeout+2*time.Second {
			t.Errorf("cut after %v, want %v", took, hub.DefaultFrameTimeout)
		}
		if n := h.Stats().Disconnected[hub.ReasonFrameTimeout]; n != 1 {
			t.Errorf("%d counted", n)
		}
		other.answered()
	})
}

// TestSlowButSteadyFramesAreServed sends frames that take most of the deadline
// each: it begins anew with each of them.
func TestSlowButSteadyFramesAreServed(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		p, other := virtual(t, ln), virtual(t, ln)
		frame := wire.AppendRelay(nil, []uint64{2}, make([]byte, 20))
		for range 5 {
			for i := range frame {
				p.send(frame[i : i+1])
				<-time.After(hub.DefaultFrameTimeout / time.Duration(len(frame)+1))
			}
			other.hears(make([]byte, 20))
		}
		p.answered()
	})
}

// TestSession_SlowFrameThatProgressesIsDelivered sends a body that takes many times the frame timeout, over a link
// that carries no more than 2 KiB a second.
func TestSession_SlowFrameThatProgressesIsDelivered(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		p, other := virtual(t, ln), virtual(t, ln)
		body := pattern(1<<20, 1)
		background(t, func() error { return other.expect(body) })
		frame := wire.AppendRelay(nil, []uint64{2}, body)
		for ; len(frame) > 0; frame = frame[min(len(frame), 2<<10):] {
			p.send(frame[:min(len(frame), 2<<10)])
			<-time.After(time.Second)
		}
		p.answered()
		if n := h.Stats().Delivered; n != 1 {
			t.Errorf("%d delivered", n)
		}
	})
}

// TestStalledReceiverIsCutToTheMoment has one who takes nothing and one who takes a
// byte a second. Their sender waits for the stall timeout, and not a moment longer.
func TestStalledReceiverIsCutToTheMoment(t *testing.T) {
	for name, bytes := range map[string]int{"nothing": 0, "a byte a second": 1} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
				sender, stalled := virtual(t, ln), virtual(t, ln)
				stalled.answered() // so that it is listed
				background(t, func() error { return stalled.drip(bytes) })
				began := time.Now()
				if err := sender.stream([]uint64{2}, 20, 64<<10); err != nil {
					t.Fatal(err)
				}
				sender.fence()
				if took := time.Since(began); took != hub.DefaultStallTimeout {
					t.Errorf("the sender went on after %v, want %v", took, hub.DefaultStallTimeout)
				}
				if n := h.Stats().Disconnected[hub.ReasonStalled]; n != 1 {
					t.Errorf("%d counted", n)
				}
			})
		})
	}
}

// drip reads so many bytes a second until the hub ends the connection.
func (p *peer) drip(bytes int) error {
	for bytes > 0 {
		<-time.After(time.Second)
		if _, err := io.ReadFull(p, make([]byte, bytes)); err != nil {
			return nil
		}
	}
	return nil
}

// TestReceiverThatTakesEnoughIsNotCut takes little more than it must in each stall
// timeout: everybody waits for it, for as long as it takes, and nothing is lost.
func TestReceiverThatTakesEnoughIsNotCut(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		sender, slow := virtual(t, ln), virtual(t, ln)
		const messages, size = 30, 30_000
		slow.answered() // so that it is listed
		background(t, func() error { return sender.stream([]uint64{2}, messages, size) })
		for n := range messages {
			<-time.After(hub.DefaultStallTimeout * 9 / 10)
			slow.hears(numbered(0, n, size))
		}
		slow.fence()
		sender.fence()
	})
}

// TestHolderOfMemoryIsCutWithinTheStallTimeout uses up the memory with parts of
// bodies. From the moment on that somebody waits for it, the stall timeout is what
// the holders have to show that they bring the rest.
func TestHolderOfMemoryIsCutWithinTheStallTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20}, ln)
		frame := wire.AppendRelay(nil, []uint64{99}, make([]byte, wire.DefaultMaxBody))
		for range 3 { // as many as there is memory for
			virtual(t, ln).send(frame[:100_000])
		}
		honest := virtual(t, ln)
		<-time.After(hub.DefaultFrameTimeout / 2) // nobody waits, nobody is cut
		if n := h.Stats().Clients; n != 4 {
			t.Fatalf("%d clients, want 4", n)
		}
		began := time.Now()
		honest.send(frame)
		honest.fence()
		if took, want := time.Since(began), hub.DefaultStallTimeout; took != want {
			t.Errorf("memory came after %v, want %v", took, want)
		}
		<-time.After(time.Second)
		if n := h.Stats().Disconnected[hub.ReasonSlow]; n != 1 {
			t.Errorf("%d holders cut, and one is enough", n)
		}
	})
}

// questions is how much the deaf ask.
const questions = 15_000

// theDeaf connects clients that ask and ask, a little at a time, and do not read the answers.
func theDeaf(t *testing.T, ln *pipes, n int) (all []*peer) {
	for range n {
		p := virtual(t, ln)
		background(t, func() error {
			for asked := 0; asked < questions; asked += 500 {
				if _, err := p.Write(bytes.Repeat(wire.AppendIdentityRequest(nil), 500)); err != nil {
					break // some are cut
				}
			}
			return nil
		})
		t.Cleanup(func() { p.Close() }) // which ends that
		all = append(all, p)
	}
	return all
}

// TestTheDeafHoldNextToNothing has many ask and ask and not read the answers. Others have all the memory there is, and
// those who do not listen must go.
func TestTheDeafHoldNextToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20}, ln)
		const deaf = 200
		theDeaf(t, ln, deaf)
		honest := virtual(t, ln)
		<-time.After(time.Second)
		if n := h.Stats().QueuedBytes; n > 100_000 {
			t.Errorf("%d bytes are queued", n)
		}
		began := time.Now()
		honest.send(wire.AppendRelay(nil, []uint64{999}, make([]byte, wire.DefaultMaxBody)))
		honest.fence()
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("a message took %v", took)
		}
		<-time.After(hub.DefaultStallTimeout + time.Second)
		if n := h.Stats().Disconnected[hub.ReasonStalled]; n != deaf {
			t.Errorf("%d of %d were cut", n, deaf)
		}
		honest.fence()
	})
}

// TestWhoListensLateHearsEverything has some who read answers after a while, and slowly.
func TestWhoListensLateHearsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		startOn(t, hub.Config{MaxQueuedBytes: 5 << 20}, ln)
		for _, p := range theDeaf(t, ln, 10) {
			background(t, func() error {
				answer := make([]byte, wire.IdentityLen)
				for n := range questions {
					if n%(questions/5) == 0 {
						<-time.After(hub.DefaultStallTimeout - time.Second)
					}
					if _, err := io.ReadFull(p, answer); err != nil {
						return fmt.Errorf("after %d answers: %w", n, err)
					}
				}
				return nil
			})
		}
	})
}

// TestAListIsMadeWhenThereIsMemoryForIt has somebody ask for the list who waits for memory while others leave. Who waited
// with a list would keep one that nobody else has: with thousands of clients that come and go, all the memory of the machine.
func TestAListIsMadeWhenThereIsMemoryForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20}, ln)
		var all []*peer
		for range 1000 {
			all = append(all, virtual(t, ln).named())
		}
		hoard(t, ln, 20, 25)
		<-time.After(time.Second)
		asker := virtual(t, ln).named()
		asker.send(wire.AppendListRequest(nil))
		<-time.After(time.Second)
		for _, p := range all[:400] {
			p.Close()
		}
		<-time.After(time.Second)
		want := h.Stats().Clients - 1
		kind, payload := asker.frame()
		if ids, err := wire.ParseList(payload); kind != wire.TypeList || err != nil || ids.Len() > want {
			t.Errorf("type %d, %d ids, and %v; %d clients are there at most", kind, ids.Len(), err, want)
		}
		<-time.After(time.Second) // they are counted when their memory is free already
		if h.Stats().Disconnected[hub.ReasonSlow] == 0 {
			t.Error("nobody had to go, so nobody has waited")
		}
	})
}

// TestAFewQuestionsDoNotWait has somebody ask and relay who takes nothing of what others send it.
func TestAFewQuestionsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, hub.Config{}, ln)
		busy, from, to := virtual(t, ln).named(), virtual(t, ln), virtual(t, ln).named()
		for range 20 {
			from.send(wire.AppendRelay(nil, []uint64{busy.id}, make([]byte, 20_000)))
		}
		for range 3 {
			busy.send(wire.AppendIdentityRequest(nil))
		}
		began := time.Now()
		busy.relay([]byte("first"), to.id)
		to.hears([]byte("first"))
		if took := time.Since(began); took != 0 {
			t.Errorf("a message took %v", took)
		}
		<-time.After(3 * hub.DefaultStallTimeout)
		if n := h.Stats().Clients; n != 3 {
			t.Errorf("%d clients are left", n)
		}
		busy.send(wire.AppendIdentityRequest(nil)) // one too many
		<-time.After(hub.DefaultStallTimeout + time.Second)
		if n := h.Stats().Disconnected[hub.ReasonStalled]; n != 1 {
			t.Errorf("%d clients have stalled", n)
		}
	})
}

// TestAListThatIsNotTakenStalls has somebody ask for one, which is long.
func TestAListThatIsNotTakenStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, hub.Config{}, ln)
		for range 300 {
			virtual(t, ln)
		}
		<-time.After(registerAfter + registerSlack)
		synctest.Wait()
		virtual(t, ln).send(wire.AppendListRequest(nil))
		<-time.After(hub.DefaultStallTimeout + time.Second)
		if n := h.Stats().Disconnected[hub.ReasonStalled]; n != 1 {
			t.Errorf("%d clients have stalled", n)
		}
	})
}

// TestTheDeafDoNotKeepMemoryThatOthersWaitFor has clients that take of their answers just enough not to stall, with more
// questions read than they are answered. They may keep those for as long as nobody else wants the memory, and then only as many are cut as must be.
func TestTheDeafDoNotKeepMemoryThatOthersWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20}, ln)
		const deaf = 60
		message := wire.AppendRelay(nil, nil, make([]byte, 2000)) // who sends more than questions is read with a large buffer
		asked := append(message, bytes.Repeat(wire.AppendIdentityRequest(nil), 20_000)...)
		for range deaf {
			p := virtual(t, ln)
			for range 2 { // from the second on
				p.send(message)
			}
			background(t, func() error { _, _ = p.Write(asked); return nil }) // until it is cut
			sip(t, p, 20*wire.IdentityLen)
		}
		<-time.After(3 * hub.DefaultStallTimeout)
		if s := h.Stats(); s.Clients != deaf || s.QueuedBytes < 3<<20 {
			t.Fatalf("%d clients are left and hold %d bytes; %v", s.Clients, s.QueuedBytes, s.Disconnected)
		}
		honest := virtual(t, ln)
		began := time.Now()
		honest.send(wire.AppendRelay(nil, []uint64{999}, make([]byte, wire.DefaultMaxBody)))
		honest.fence()
		if took := time.Since(began); took > hub.DefaultStallTimeout+time.Second {
			t.Errorf("a message took %v", took)
		}
		<-time.After(time.Second)
		if n := h.Stats().Disconnected[hub.ReasonSlow]; n == 0 || n > deaf/2 {
			t.Errorf("%d of %d were cut", n, deaf)
		}
	})
}

// hoard has n clients send 20 KB so many times to others that take nothing.
func hoard(t *testing.T, ln *pipes, n, times int) {
	for range n {
		to, from := virtual(t, ln).named(), virtual(t, ln)
		background(t, func() error {
			for range times {
				if _, err := from.Write(wire.AppendRelay(nil, []uint64{to.id}, make([]byte, 20_000))); err != nil {
					break // it is cut
				}
			}
			return nil
		})
		t.Cleanup(func() { from.Close() }) // which ends that
	}
}

// TestNotEveryMessageWaitsForTheSlowToBeFound sends large messages now and then, for which each time some must go
// who take nothing. Who is slow takes a stall timeout to find out, once.
func TestNotEveryMessageWaitsForTheSlowToBeFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20}, ln)
		hoard(t, ln, 50, 5)
		honest := virtual(t, ln)
		<-time.After(time.Second)
		for i := range 10 {
			began := time.Now()
			honest.send(wire.AppendRelay(nil, []uint64{999}, make([]byte, 500_000)))
			honest.fence()
			most := time.Second
			if i == 0 {
				most += hub.DefaultStallTimeout
			}
			if took := time.Since(began); took > most {
				t.Errorf("message %d waited for %v", i, took)
			}
			hoard(t, ln, 1, 25) // what was given up is held again
			<-time.After(3 * time.Second)
		}
		if h.Stats().Disconnected[hub.ReasonSlow] == 0 {
			t.Error("nobody had to go, so nothing was tested")
		}
	})
}

// TestWhoHoldsNextToNothingIsNotCutForIt has thousands that are as slow as the one who holds the memory.
func TestWhoHoldsNextToNothingIsNotCutForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20}, ln)
		frame := wire.AppendRelay(nil, []uint64{999_999}, make([]byte, wire.DefaultMaxBody))
		for range 3 { // as many as there is memory for
			virtual(t, ln).send(frame[:100_000])
		}
		other, honest := virtual(t, ln), virtual(t, ln)
		for range 5 {
			var to []uint64
			for range 200 {
				to = append(to, virtual(t, ln).named().id)
			}
			other.send(wire.AppendRelay(nil, to, make([]byte, 2000))) // which is there once
		}
		<-time.After(time.Second)
		honest.send(frame)
		honest.fence()
		<-time.After(time.Second)
		if n := h.Stats().Disconnected[hub.ReasonSlow]; n != 1 {
			t.Errorf("%d were cut, and one was enough", n)
		}
	})
}

// TestAListenerIsAnsweredBesideAStream has somebody ask for the list to whom others always have more to say, so that its queue is
// never empty, while memory is short all the time.
func TestAListenerIsAnsweredBesideAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, hub.Config{MaxQueuedBytes: 1 << 20, MaxBody: 200_000, OutboxBytes: 64 << 10}, ln)
		for range 450 {
			virtual(t, ln)
		}
		listener := virtual(t, ln)
		listener.answered()
		const id = 451
		for i := range 14 { // pairs that keep memory short, slowly
			sender, receiver := virtual(t, ln), virtual(t, ln)
			receiver.answered()
			pour(t, sender, wire.AppendRelay(nil, []uint64{uint64(id + 2 + 2*i)}, make([]byte, 100_000)))
			sip(t, receiver, 100_000)
		}
		for range 100 {
			pour(t, virtual(t, ln), wire.AppendRelay(nil, []uint64{id}, make([]byte, 700)))
		}
		answered := make(chan time.Time, 1)
		background(t, func() error {
			for heard := 0; ; {
				kind, payload, err := listener.next()
				if err != nil {
					return nil
				}
				if kind == wire.TypeList {
					answered <- time.Now()
				}
				if heard += len(payload); heard > 10_000 { // 100 kB a second
					heard = 0
					<-time.After(100 * time.Millisecond)
				}
			}
		})
		t.Cleanup(func() { listener.Close() })
		<-time.After(15 * time.Second)
		if s := h.Stats(); s.Clients != 450+1+28+100 {
			t.Fatalf("%d clients are left: %v", s.Clients, s.Disconnected)
		}
		began := time.Now()
		listener.send(wire.AppendListRequest(nil))
		select {
		case at := <-answered:
			t.Logf("the list came after %v", at.Sub(began))
		case <-time.After(10 * time.Second):
			t.Error("no list in 10 s")
		}
	})
}

// pour sends the same again and again.
func pour(t *testing.T, p *peer, frame []byte) {
	background(t, func() error {
		for {
			if _, err := p.Write(frame); err != nil {
				return nil
			}
			<-time.After(10 * time.Millisecond)
		}
	})
	t.Cleanup(func() { p.Close() })
}

// sip takes so many bytes each second.
func sip(t *testing.T, p *peer, bytes int64) {
	background(t, func() error {
		for {
			<-time.After(time.Second)
			if _, err := io.CopyN(io.Discard, p, bytes); err != nil {
				return nil
			}
		}
	})
	t.Cleanup(func() { p.Close() })
}

// TestShutdownDoesNotWaitForTheDeaf has such clients when the hub ends: only what is queued for them takes the
// time that there is, and nobody else waits for it.
func TestShutdownDoesNotWaitForTheDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20}, ln)
		theDeaf(t, ln, 64)
		idle := virtual(t, ln)
		idle.answered()
		<-time.After(time.Second)
		began := time.Now()
		background(t, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("Shutdown: %w, though answers are left", err)
			}
			return nil
		})
		if _, err := idle.Read(make([]byte, 1)); err != io.EOF || time.Since(began) > time.Second {
			t.Errorf("%v after %v, want the end at once", err, time.Since(began))
		}
	})
}

// TestShutdownDoesNotWaitForTheSilent has clients that never said a word, that
// stopped in the middle of one, and that are idle.
func TestShutdownDoesNotWaitForTheSilent(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		silent, half, idle := virtual(t, ln), virtual(t, ln), virtual(t, ln)
		idle.answered()
		half.send([]byte{0, 0})
		began := time.Now()
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("Shutdown took %v", took)
		}
		for _, p := range []*peer{silent, half, idle} {
			if _, err := p.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%v, want the end", err)
			}
		}
	})
}

// TestAcceptFailuresAreRetriedWithAGrowingPause has a listener that fails thrice.
func TestAcceptFailuresAreRetriedWithAGrowingPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		began := time.Now()
		h := startOn(t, hub.Config{}, &failing{Listener: ln, failures: 12})
		p := virtual(t, ln)
		// 5 + 10 + … + 640 ms, then 1 s each.
		if took, want := time.Since(began), 1275*time.Millisecond+4*time.Second; took != want {
			t.Errorf("accepted after %v, want %v", took, want)
		}
		p.answered()
		if n := h.Stats().AcceptErrors; n != 12 {
			t.Errorf("%d accept errors counted", n)
		}
	})
}

// failing is a listener that at first has no files left.
type failing struct {
	net.Listener
	failures int
}

// Accept fails as often as it is told to.
func (f *failing) Accept() (net.Conn, error) {
	if f.failures > 0 {
		f.failures--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: errNoFiles}
	}
	return f.Listener.Accept()
}

// TestPace_TimeWithoutReadingIsNoSilence has a client be slowed down for longer than two keep-alive intervals: what it
// says meanwhile finds no room. When it is read again, and says nothing, it is given up.
func TestPace_TimeWithoutReadingIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, hub.Config{ByteRate: 20 << 10, KeepAlive: time.Second}, ln)
		g := greet(virtual(t, ln), wire.Hello{Version: wire.Version2})
		defer g.Close() // for those in the background
		say, silent := make(chan []byte, 1000), make(chan struct{})
		background(t, func() error { // one after the other, as a kernel does; ends with the connection, or the silence
			for {
				select {
				case frame := <-say:
					if _, err := g.Write(frame); err != nil {
						return nil
					}
				case <-silent:
					return nil
				}
			}
		})
		background(t, func() error { // ends with the connection
			for kind, payload, err := g.next(); err == nil; kind, payload, err = g.next() {
				if n, _ := wire.ParseNumber(payload); kind == wire.TypePing {
					say <- wire.AppendPong(nil, n)
				}
			}
			return nil
		})
		for seq := range uint64(3) { // each has 10 s worth of the rate
			say <- wire.AppendSend(nil, 1+seq, 0, 0, []uint64{12345}, make([]byte, 200<<10))
		}
		<-time.After(60 * time.Second)
		if st := h.Stats(); st.Paced == 0 || st.Disconnected[hub.ReasonTimeout] > 0 || st.Resumed > 0 {
			t.Errorf("slowed down %d times, given up %d times", st.Paced, st.Disconnected[hub.ReasonTimeout])
		}
		if i, there := h.Client(g.id); !there || i.Detached {
			t.Error("it is taken for lost while the hub does not read it")
		}
		close(silent)
		<-time.After(10 * time.Second)
		if i, there := h.Client(g.id); there && !i.Detached {
			t.Error("one that is silent is not given up")
		}
	})
}
