package hub_test

import (
	"bytes"
	"cmp"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestBatch_MixedReceiversWhileWritten sends to receivers of both versions by turns, from several
// senders at once: so outboxes are written while the same messages are still being offered to
// others. The race detector watches what a batch keeps; a fate of a receiver of version 1 that is
// not final at once would let the reports wait for the report timeout.
func TestBatch_MixedReceiversWhileWritten(t *testing.T) {
	const senders, pairs, messages = 4, 16, 200
	h := start(t, hub.Config{ReportTimeout: 10 * patience})
	var to []uint64
	var want []byte
	for range pairs {
		newer, classic := h.guest(t), h.peer(t)
		to = append(to, newer.id, classic.id)
		want = append(want, byte(wire.FateReceived), byte(wire.FateWritten))
		background(t, func() error { return newer.acknowledge(senders * messages) })
		background(t, func() error {
			for range senders * messages {
				if _, _, err := classic.next(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	all := make([]*guest, senders)
	for i := range all {
		all[i] = h.guest(t)
	}
	parallel(t, senders, func(i int) error { return all[i].sendReported(messages, to, want) })
}

// acknowledge reads n counted frames, and says of each that it was received.
func (g *guest) acknowledge(n uint64) error {
	for g.had < n {
		kind, _, err := g.next()
		if err != nil {
			return err
		}
		if !kind.Counted() {
			continue
		}
		g.had++
		if _, err := g.Write(wire.AppendTaken(nil, g.had)); err != nil {
			return err
		}
	}
	return nil
}

// sendReported sends n messages, each when the one before is reported, and wants these fates.
func (g *guest) sendReported(n int, to []uint64, want []byte) error {
	for range n {
		g.seq++
		if _, err := g.Write(wire.AppendSend(nil, g.seq, only(wire.LevelReceived), 0, to, []byte("mixed"))); err != nil {
			return err
		}
		for {
			kind, payload, err := g.next()
			if err != nil {
				return err
			}
			if kind != wire.TypeReport {
				continue
			}
			if r, err := wire.ParseReport(payload); err != nil || r.Seq != g.seq || !bytes.Equal(r.Fates, want) {
				return fmt.Errorf("REPORT %+v, %v, want of %d: %v", r, err, g.seq, want)
			}
			g.had++
			if _, err := g.Write(wire.AppendTaken(nil, g.had)); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// TestBatch_VerdictOnAMessageSentTwice names one receiver twice. Its first verdict on the message
// counts for each copy that is written to it, before or after, and for no other.
func TestBatch_VerdictOnAMessageSentTwice(t *testing.T) {
	ack := func(g, sender *guest, seq uint64, fate wire.Fate) {
		g.send(wire.AppendAcks(nil, []wire.Ack{{Sender: sender.id, Seq: seq, Fate: fate}}))
	}
	body := pattern(5000, 1)
	for _, first := range []wire.Fate{wire.FateProcessed, wire.FateRejected} {
		second := wire.FateProcessed + wire.FateRejected - first

		h := start(t, hub.Config{Window: 4 << 10, OutboxBytes: 4 << 10}) // one copy at a time is under way
		sender, receiver := h.guest(t), h.guest(t)
		seq := sender.tell(body, only(wire.LevelProcessed), 0, receiver.id, receiver.id)
		receiver.delivered(sender.id, seq, body)
		receiver.delivered(sender.id, seq, body)
		ack(receiver, sender, seq, first)
		ack(receiver, sender, seq, second)
		sender.reported(seq, first, first)

		receiver.mute = true
		seq = sender.tell(body, only(wire.LevelProcessed), 0, receiver.id, receiver.id)
		receiver.delivered(sender.id, seq, body)
		ack(receiver, sender, seq, first)
		ack(receiver, sender, seq, second)
		receiver.send(wire.AppendTaken(nil, receiver.had))
		receiver.delivered(sender.id, seq, body)
		sender.reported(seq, first, first)
		receiver.send(wire.AppendTaken(nil, receiver.had))

		seq = sender.tell(body, only(wire.LevelProcessed), 500, receiver.id, receiver.id)
		receiver.delivered(sender.id, seq, body)
		ack(receiver, sender, seq, first)
		sender.reported(seq, first, wire.FateExpired)
	}
}

// TestBatch_ReportTimeout takes place in virtual time. A receiver says after some time that it has
// processed a message: is its sender told so, or that the time of the report was up?
func TestBatch_ReportTimeout(t *testing.T) {
	const processed, received = wire.FateProcessed, wire.FateReceived
	tests := map[string]struct {
		config    hub.Config
		named     time.Duration // by the SEND; 0: none
		ttl       time.Duration
		processed time.Duration // after it was sent
		want      wire.Fate
		after     time.Duration
	}{
		"75 s, and none is named":      {processed: 75 * time.Second, want: received, after: time.Minute},
		"75 s of the hub's 90":         {config: hub.Config{ReportTimeout: 90 * time.Second}, processed: 75 * time.Second, want: processed, after: 75 * time.Second},
		"75 s of 90 that are named":    {named: 90 * time.Second, processed: 75 * time.Second, want: processed, after: 75 * time.Second},
		"less is named":                {named: 1500 * time.Millisecond, processed: 75 * time.Second, want: received, after: 1500 * time.Millisecond},
		"more is named than the bound": {config: hub.Config{MaxReportTimeout: 2 * time.Minute}, named: time.Hour, processed: 3 * time.Minute, want: received, after: 2 * time.Minute},
		"more is named than any bound": {named: wire.MaxReportTimeout, processed: 2 * time.Hour, want: received, after: time.Hour},
		"the time to live is shorter":  {named: time.Hour, ttl: 5 * time.Second, processed: 75 * time.Second, want: received, after: 5 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.config.KeepAlive = time.Hour
				ln := newPipes()
				startOn(t, tt.config, ln)
				hello := wire.Hello{Version: wire.Version2}
				sender, receiver := greet(virtual(t, ln), hello), greet(virtual(t, ln), hello)
				limit := time.Duration(sender.MaxReportTimeout) * time.Millisecond
				if want := cmp.Or(tt.config.MaxReportTimeout, hub.DefaultMaxReportTimeout); limit != want {
					t.Errorf("WELCOME says that reports may wait %v, want %v", limit, want)
				}
				begin := time.Now()
				seq := sender.tell([]byte("x"), only(wire.LevelProcessed).WithReportTimeout(tt.named), uint32(tt.ttl.Milliseconds()), receiver.id)
				receiver.delivered(sender.id, seq, []byte("x"))
				verdict := time.AfterFunc(tt.processed, func() {
					receiver.send(wire.AppendAcks(nil, []wire.Ack{{Sender: sender.id, Seq: seq, Fate: processed}}))
				})
				defer verdict.Stop()
				sender.reported(seq, tt.want)
				if took := time.Since(begin); took != tt.after {
					t.Errorf("reported after %v, want %v", took, tt.after)
				}
			})
		})
	}
}

// TestBatch_ExpiredAfterItWasWritten loses the receiver's connection after messages were written on it, one of
// which expires before the receiver is back. That one does not come again, if the receiver
// knows how to count what does not come; and its fate is uncertain, for it may have come before.
func TestBatch_ExpiredAfterItWasWritten(t *testing.T) {
	for _, skips := range []bool{true, false} {
		inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
			hello := wire.Hello{Version: wire.Version2, Skip: skips}
			sender, receiver := virtualGuest(t, ln), greet(virtual(t, ln), hello)
			first := sender.tell([]byte("first"), only(wire.LevelReceived), 0, receiver.id)
			timed := sender.tell([]byte("timed"), only(wire.LevelReceived), 1000, receiver.id)
			last := sender.tell([]byte("last"), only(wire.LevelReceived), 0, receiver.id)
			receiver.mute = true
			receiver.delivered(sender.id, first, []byte("first"))
			receiver.delivered(sender.id, timed, []byte("timed"))
			receiver.delivered(sender.id, last, []byte("last"))
			receiver.Close()
			sender.reported(timed, wire.FateUncertain)

			hello.ID, hello.Resume = receiver.ID, receiver.Resume
			back := greet(virtual(t, ln), hello)
			back.delivered(sender.id, first, []byte("first"))
			if !skips {
				back.delivered(sender.id, timed, []byte("timed"))
			} else if kind, _ := back.read(); kind != wire.TypeSkip {
				t.Fatalf("a frame of type %#x in the place of one that has expired", kind)
			}
			back.delivered(sender.id, last, []byte("last"))
			sender.bothReported(first, last)

			fresh := sender.tell([]byte("fresh"), only(wire.LevelReceived), 0, receiver.id)
			back.delivered(sender.id, fresh, []byte("fresh"))
			sender.reported(fresh, wire.FateReceived)
		})
	}
}

// TestBatch_ExpiredOnAConnectionThatTakesNothing is written once: when its time is up nobody knows more. It is not
// written again when the receiver comes back on another connection.
func TestBatch_ExpiredOnAConnectionThatTakesNothing(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		hello := wire.Hello{Version: wire.Version2, Skip: true}
		sender, receiver := virtualGuest(t, ln), greet(virtual(t, ln), hello)
		timed := sender.tell([]byte("timed"), only(wire.LevelReceived), 1000, receiver.id)
		receiver.mute = true
		receiver.delivered(sender.id, timed, []byte("timed"))
		sender.reported(timed, wire.FateWritten)
		hello.ID, hello.Resume = receiver.ID, receiver.Resume // and its connection is still there
		back := greet(virtual(t, ln), hello)
		if kind, _ := back.read(); kind != wire.TypeSkip {
			t.Fatalf("a frame of type %#x in the place of one that has expired", kind)
		}
		fresh := sender.tell([]byte("fresh"), only(wire.LevelReceived), 1000, receiver.id)
		back.delivered(sender.id, fresh, []byte("fresh"))
		sender.reported(fresh, wire.FateReceived)
	})
}
