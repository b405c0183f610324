package hub_test

import (
	"bytes"
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestReports_MixedVersions_WhileWriting sends to receivers of both versions in turn,
// from several senders at once. Outboxes are thus written while the same messages are still
// being offered to other receivers. The race detector watches the state of the trackers. If
// the fate of a version 1 receiver were not final at once, the reports would wait for the
// report timeout.
func TestReports_MixedVersions_WhileWriting(t *testing.T) {
	const senders, pairs = 4, 16
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		messages := tr.count(200)
		h := tr.start(t, hub.Config{ReportTimeout: 10 * testTimeout})
		var to []uint64
		var want []byte
		for range pairs {
			v2, v1 := h.connectV2(t), h.connectV1(t)
			to = append(to, v2.id, v1.id)
			want = append(want, byte(wire.FateReceived), byte(wire.FateWritten))
			background(t, func() error { return v2.ackFrames(uint64(senders * messages)) })
			background(t, func() error {
				for range senders * messages {
					if _, _, err := v1.readFrame(); err != nil {
						return err
					}
				}
				return nil
			})
		}
		clients := make([]*clientV2, senders)
		for i := range clients {
			clients[i] = h.connectV2(t)
		}
		parallel(t, senders, func(i int) error { return clients[i].sendAndExpectReports(messages, to, want) })
	})
}

// ackFrames reads n reliable frames and acknowledges each.
func (c *clientV2) ackFrames(n uint64) error {
	for c.received < n {
		kind, _, err := c.readFrame()
		if err != nil {
			return err
		}
		if !kind.IsReliable() {
			continue
		}
		c.received++
		if _, err := c.Write(wire.AppendAck(nil, c.received)); err != nil {
			return err
		}
	}
	return nil
}

// sendAndExpectReports sends n messages, each after the report on the one before, and checks
// their fates.
func (c *clientV2) sendAndExpectReports(n int, to []uint64, want []byte) error {
	for range n {
		c.seq++
		if _, err := c.Write(wire.AppendSend(nil, c.seq, levelOptions(wire.LevelReceived), 0, to, []byte("mixed"))); err != nil {
			return err
		}
		for {
			kind, payload, err := c.readFrame()
			if err != nil {
				return err
			}
			if kind != wire.TypeReport {
				continue
			}
			if r, err := wire.ParseReport(payload); err != nil || r.Seq != c.seq || !bytes.Equal(r.Fates, want) {
				return fmt.Errorf("got REPORT %+v, %v, want seq %d: %v", r, err, c.seq, want)
			}
			c.received++
			if _, err := c.Write(wire.AppendAck(nil, c.received)); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// TestReports_DuplicateReceiver_FirstVerdictCounts names one receiver twice. Its
// first verdict on the message counts for each copy that is written to it, before or after
// the verdict, and for no other copy.
func TestReports_DuplicateReceiver_FirstVerdictCounts(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		sendVerdict := func(from, sender *clientV2, seq uint64, fate wire.Fate) {
			from.send(wire.AppendVerdicts(nil, []wire.Verdict{{Sender: sender.id, Seq: seq, Fate: fate}}))
		}
		body := pattern(5000, 1)
		for _, first := range []wire.Fate{wire.FateProcessed, wire.FateRejected} {
			second := wire.FateProcessed + wire.FateRejected - first

			// one copy at a time is in flight
			h := tr.start(t, hub.Config{Window: 4 << 10, OutboxBytes: 4 << 10})
			sender, receiver := h.connectV2(t), h.connectV2(t)
			seq := sender.sendMessage(body, levelOptions(wire.LevelProcessed), 0, receiver.id, receiver.id)
			receiver.expectDeliver(sender.id, seq, body)
			receiver.expectDeliver(sender.id, seq, body)
			sendVerdict(receiver, sender, seq, first)
			sendVerdict(receiver, sender, seq, second)
			sender.expectReport(seq, first, first)

			receiver.withholdsAcks = true
			seq = sender.sendMessage(body, levelOptions(wire.LevelProcessed), 0, receiver.id, receiver.id)
			receiver.expectDeliver(sender.id, seq, body)
			sendVerdict(receiver, sender, seq, first)
			sendVerdict(receiver, sender, seq, second)
			receiver.send(wire.AppendAck(nil, receiver.received))
			receiver.expectDeliver(sender.id, seq, body)
			sender.expectReport(seq, first, first)
			receiver.send(wire.AppendAck(nil, receiver.received))

			seq = sender.sendMessage(body, levelOptions(wire.LevelProcessed), 500, receiver.id, receiver.id)
			receiver.expectDeliver(sender.id, seq, body)
			sendVerdict(receiver, sender, seq, first)
			sender.expectReport(seq, first, wire.FateExpired)
		}
	})
}

// TestReports_ReportTimeout runs in virtual time. A receiver sends its verdict after
// some time, and the test checks whether the report has the verdict or was sent earlier.
func TestReports_ReportTimeout(t *testing.T) {
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
			onMemoryTransports(t, func(t *testing.T, start startFunc) {
				tt.config.KeepAlive = time.Hour
				h := start(t, tt.config)
				hello := wire.Hello{Version: wire.Version2}
				sender, receiver := h.connectHello(t, hello), h.connectHello(t, hello)
				limit := time.Duration(sender.MaxReportTimeout) * time.Millisecond
				if want := cmp.Or(tt.config.MaxReportTimeout, hub.DefaultMaxReportTimeout); limit != want {
					t.Errorf("WELCOME has a report timeout of at most %v, want %v", limit, want)
				}
				begin := time.Now()
				seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelProcessed).WithReportTimeout(tt.named), uint32(tt.ttl.Milliseconds()), receiver.id)
				receiver.expectDeliver(sender.id, seq, []byte("x"))
				verdict := time.AfterFunc(tt.processed, func() {
					receiver.send(wire.AppendVerdicts(nil, []wire.Verdict{{Sender: sender.id, Seq: seq, Fate: processed}}))
				})
				defer verdict.Stop()
				sender.expectReport(seq, tt.want)
				if took := time.Since(begin); took != tt.after {
					t.Errorf("reported after %v, want %v", took, tt.after)
				}
			})
		})
	}
}

// TestReports_ExpiredAfterWrite_IsUncertain closes the receiver's connection after
// messages were written on it. One of them expires before the receiver resumes. It is not
// sent again if the receiver supports SKIP, and its fate is uncertain because it may have
// arrived before.
func TestReports_ExpiredAfterWrite_IsUncertain(t *testing.T) {
	for _, supportsSkip := range []bool{true, false} {
		inVirtualTime(t, func(t *testing.T, h *testHub) {
			hello := wire.Hello{Version: wire.Version2, Skip: supportsSkip}
			sender, receiver := h.connectV2(t), h.connectHello(t, hello)
			first := sender.sendMessage([]byte("first"), levelOptions(wire.LevelReceived), 0, receiver.id)
			timed := sender.sendMessage([]byte("timed"), levelOptions(wire.LevelReceived), 1000, receiver.id)
			last := sender.sendMessage([]byte("last"), levelOptions(wire.LevelReceived), 0, receiver.id)
			receiver.withholdsAcks = true
			receiver.expectDeliver(sender.id, first, []byte("first"))
			receiver.expectDeliver(sender.id, timed, []byte("timed"))
			receiver.expectDeliver(sender.id, last, []byte("last"))
			receiver.Close()
			sender.expectReport(timed, wire.FateUncertain)

			hello.ID, hello.Resume = receiver.ID, receiver.Resume
			back := h.connectHello(t, hello)
			back.expectDeliver(sender.id, first, []byte("first"))
			if !supportsSkip {
				back.expectDeliver(sender.id, timed, []byte("timed"))
			} else if kind, _ := back.nextFrame(); kind != wire.TypeSkip {
				t.Fatalf("got frame type %#x in place of an expired message, want SKIP", kind)
			}
			back.expectDeliver(sender.id, last, []byte("last"))
			sender.expectTwoReports(first, last)

			fresh := sender.sendMessage([]byte("fresh"), levelOptions(wire.LevelReceived), 0, receiver.id)
			back.expectDeliver(sender.id, fresh, []byte("fresh"))
			sender.expectReport(fresh, wire.FateReceived)
		})
	}
}

// TestReports_ExpiredOnStalledConn_IsNotResent writes a message once. When it
// expires, its fate stays written. It is not written again when the receiver resumes on
// another connection.
func TestReports_ExpiredOnStalledConn_IsNotResent(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		hello := wire.Hello{Version: wire.Version2, Skip: true}
		sender, receiver := h.connectV2(t), h.connectHello(t, hello)
		timed := sender.sendMessage([]byte("timed"), levelOptions(wire.LevelReceived), 1000, receiver.id)
		receiver.withholdsAcks = true
		receiver.expectDeliver(sender.id, timed, []byte("timed"))
		sender.expectReport(timed, wire.FateWritten)
		hello.ID, hello.Resume = receiver.ID, receiver.Resume // its connection is still open
		back := h.connectHello(t, hello)
		if kind, _ := back.nextFrame(); kind != wire.TypeSkip {
			t.Fatalf("got frame type %#x in place of an expired message, want SKIP", kind)
		}
		fresh := sender.sendMessage([]byte("fresh"), levelOptions(wire.LevelReceived), 1000, receiver.id)
		back.expectDeliver(sender.id, fresh, []byte("fresh"))
		sender.expectReport(fresh, wire.FateReceived)
	})
}

func TestReports_EachLevel_HasItsFate(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		sender, v2, v1 := h.connectV2(t), h.connectV2(t), h.connectV1(t)
		for i, size := range bodySizes {
			body := pattern(size, byte(i))

			seq := sender.sendMessage(body, levelOptions(wire.LevelWritten), 0, v2.id, 999_999, v1.id)
			v2.expectDeliver(sender.id, seq, body)
			v1.expectRelay(body)
			sender.expectReport(seq, wire.FateWritten, wire.FateUnknown, wire.FateWritten)

			seq = sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, v2.id, v1.id, v2.id)
			for range 2 {
				if d := v2.expectDeliver(sender.id, seq, body); d.Flags != wire.DeliverWantAck {
					t.Errorf("flags %v, want DeliverWantAck", d.Flags)
				}
			}
			v1.expectRelay(body)
			sender.expectReport(seq, wire.FateReceived, wire.FateWritten, wire.FateReceived)

			for _, verdict := range []wire.Fate{wire.FateProcessed, wire.FateRejected} {
				seq = sender.sendMessage(body, levelOptions(wire.LevelProcessed), 0, v2.id)
				v2.expectDeliver(sender.id, seq, body)
				v2.send(wire.AppendVerdicts(nil, []wire.Verdict{{Sender: sender.id, Seq: seq, Fate: verdict}}))
				sender.expectReport(seq, verdict)
			}
		}
		seq := sender.sendMessage(nil, levelOptions(wire.LevelReceived), 0)
		sender.expectReport(seq)
	})
}

// TestReports_PipelinedMessages_EachOnce pipelines messages that the hub handles as one batch.
func TestReports_PipelinedMessages_EachOnce(t *testing.T) {
	const messages = 2000
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		sender, receivers := h.connectV2(t), []*clientV2{h.connectV2(t), h.connectV2(t), h.connectV2(t)}
		to := []uint64{receivers[0].id, receivers[1].id, receivers[2].id}
		background(t, func() error {
			var frames []byte
			for seq := uint64(1); seq <= messages; seq++ {
				frames = wire.AppendSend(frames, seq, levelOptions(wire.LevelReceived), 0, to, []byte("run"))
			}
			_, err := sender.Write(frames)
			return err
		})
		for _, c := range receivers {
			c.withholdsAcks = true
		}
		reports := make(map[uint64]bool)
		for seq := uint64(1); seq <= messages; seq++ {
			for _, c := range receivers {
				c.expectDeliver(sender.id, seq, []byte("run"))
			}
			if seq%97 == 0 || seq == messages {
				for i, c := range receivers {
					c.send(wire.AppendAck(nil, c.received-uint64(i)*7%c.received))
					c.send(wire.AppendAck(nil, c.received))
				}
				for sender.received < seq { // in any order
					kind, payload := sender.nextFrame()
					r, err := wire.ParseReport(payload)
					if kind != wire.TypeReport || err != nil || !bytes.Equal(r.Fates, []byte{3, 3, 3}) || reports[r.Seq] {
						t.Fatalf("type %#x, %+v, %v; reported before: %v", kind, r, err, reports[r.Seq])
					}
					reports[r.Seq] = true
				}
			}
		}
		for seq := uint64(1); seq <= messages; seq++ {
			if !reports[seq] {
				t.Errorf("no report of message %d", seq)
			}
		}
	})
}

func TestReports_Timeout_ReportsCurrentFates(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{ReportTimeout: 50 * time.Millisecond, OutboxBytes: 4 << 10, ResumeWindow: time.Minute})
		sender, slow, detached := h.connectV2(t), h.connectV2(t), h.connectV2(t)
		detached.reset()
		h.waitDetached(t, detached)
		base := h.Stats().Fates[wire.FateExpired]
		slow.withholdsAcks = true
		body := pattern(5000, 1)
		queued := sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, slow.id, detached.id)
		sender.expectReport(queued, wire.FateWritten, wire.FateQueued)
		pending := sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, detached.id)
		sender.expectReport(pending, wire.FatePending)
		processed := sender.sendMessage(body, levelOptions(wire.LevelProcessed), 0, slow.id)
		slow.expectDeliver(sender.id, queued, body)
		slow.expectDeliver(sender.id, processed, body)
		slow.send(wire.AppendAck(nil, slow.received))
		sender.expectReport(processed, wire.FateReceived)
		// This verdict is too late because the message is already reported.
		slow.send(wire.AppendVerdicts(nil, []wire.Verdict{{Sender: sender.id, Seq: processed, Fate: wire.FateProcessed}}))
		slow.awaitPong()
		if n := h.Stats().Fates[wire.FateExpired]; n != base {
			t.Errorf("%d messages without a time to live expired", n-base)
		}
	})
}

func TestReports_ReceiverNeverResumes_IsGone(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{ResumeWindow: 200 * time.Millisecond})
		sender, first := h.connectV2(t), h.connectV2(t)
		first.reset()
		eventually(t, "the session is detached", func() bool {
			seq := sender.sendMessage([]byte("x"), wire.MakeOptions(wire.LevelWritten, wire.OverflowBlock), 10, first.id)
			kind, payload := sender.nextFrame()
			r, err := wire.ParseReport(payload)
			if kind != wire.TypeReport || err != nil || r.Seq != seq {
				t.Fatalf("type %#x, %v", kind, err)
			}
			return wire.Fate(r.Fates[0]) == wire.FateExpired
		})
		seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, first.id)
		sender.expectReport(seq, wire.FateGone)
	})
}

// TestReports_ReceiverLeavesBeforeVerdict_IsUncertain has a receiver acknowledge a message and
// leave before it sends its verdict.
func TestReports_ReceiverLeavesBeforeVerdict_IsUncertain(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		sender, receiver := h.connectV2(t), h.connectV2(t)
		seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelProcessed), 0, receiver.id)
		receiver.expectDeliver(sender.id, seq, []byte("x"))
		receiver.awaitPong() // the hub has handled the ACK as well
		receiver.send(wire.AppendBye(nil))
		sender.expectReport(seq, wire.FateUncertain)
	})
}

// TestReports_MaxReports_BlocksSender sends more messages that ask for a verdict than
// MaxReports.
func TestReports_MaxReports_BlocksSender(t *testing.T) {
	const maxReports, messages = 4, 10
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MaxReports: maxReports})
		sender, receiver := h.connectV2(t), h.connectV2(t)
		for range messages {
			sender.sendMessage(nil, levelOptions(wire.LevelProcessed), 0, receiver.id)
		}
		for seq := uint64(1); seq <= messages; seq++ {
			receiver.expectDeliver(sender.id, seq, nil)
			if seq == maxReports {
				receiver.awaitPong() // fails if a fifth message arrives
			}
			if seq >= maxReports { // one verdict for each further message
				receiver.send(wire.AppendVerdicts(nil, []wire.Verdict{{Sender: sender.id, Seq: seq - maxReports + 1, Fate: wire.FateProcessed}}))
				sender.expectReport(seq-maxReports+1, wire.FateProcessed)
			}
		}
	})
}
