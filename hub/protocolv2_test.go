package hub_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// bodySizes are lengths of bodies that the hub handles in different ways: copied behind other
// frames, referred to in a read buffer, and held in a buffer of their own.
var bodySizes = []int{0, 1, 100, 5000, 60_000, 100_000, 1 << 20}

func TestProtocolV2_BothVersions_Interoperate(t *testing.T) {
	h := start(t, hub.Config{})
	sender, v2, v1 := h.connectV2(t), h.connectV2(t), h.connectV1(t)
	for i, size := range bodySizes {
		body := pattern(size, byte(i))
		seq := sender.sendMessage(body, 0, 0, v2.id, v1.id)
		d := v2.expectDeliver(sender.id, seq, body)
		if age := time.Since(time.UnixMicro(int64(d.Time))); age < -time.Second || age > testTimeout {
			t.Errorf("time of a message that was just sent: %v ago", age)
		}
		v1.expectRelay(body)

		v1.relay(body, v2.id, v1.id)
		v2.expectDeliver(v1.id, 0, body)
		v1.expectRelay(body)

		sender.relay(body, v2.id, sender.id) // frames of version 1 stay valid
		v2.expectDeliver(sender.id, 0, body)
		sender.expectDeliver(sender.id, 0, body)

		// The header of this DELIVER exactly fits into the space before the body.
		seq = sender.sendMessage(body, 0, 0, v2.id)
		v2.expectDeliver(sender.id, seq, body)
	}
}

func TestReport_EachLevel_HasItsFate(t *testing.T) {
	h := start(t, hub.Config{})
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
}

// TestReport_PipelinedMessages_EachOnce pipelines messages that the hub handles as one batch.
func TestReport_PipelinedMessages_EachOnce(t *testing.T) {
	const messages = 2000
	h := start(t, hub.Config{})
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
}

func TestReport_ReceiverNeverResumes_IsGone(t *testing.T) {
	h := start(t, hub.Config{ResumeWindow: 200 * time.Millisecond})
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
}

func TestOverflow_FullQueue_RejectsOrDropsOldest(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 64 << 10, ResumeWindow: time.Minute})
	sender, detached := h.connectV2(t), h.connectV2(t)
	detached.reset() // nothing is written to the client, and everything is queued
	sender.waitUnwritable(detached)
	body := pattern(20_000, 1)
	reject, dropOldest := wire.MakeOptions(wire.LevelWritten, wire.OverflowReject), wire.MakeOptions(wire.LevelWritten, wire.OverflowDropOldest)
	var kept []uint64
	for range 4 {
		kept = append(kept, sender.sendMessage(body, dropOldest, 0, detached.id))
	}
	full := sender.sendMessage(body, reject, 0, detached.id)
	sender.expectReport(full, wire.FateFull)
	last := sender.sendMessage(body, dropOldest, 0, detached.id)
	sender.expectReport(kept[0], wire.FateFull)
	kept = append(kept[1:], last)
	back := h.resume(t, detached)
	for _, seq := range kept {
		back.expectDeliver(sender.id, seq, body)
		sender.expectReport(seq, wire.FateWritten)
	}
}

// TestStallTimeout_DetachedReceiver_UnblocksSenders checks that a detached receiver with a
// full queue blocks its senders for at most the stall timeout. Messages in a queue that blocks
// no sender wait until the resume window ends.
func TestStallTimeout_DetachedReceiver_UnblocksSenders(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 4 << 10, StallTimeout: 500 * time.Millisecond, ResumeWindow: time.Minute})
	sender, detached := h.connectV2(t), h.connectV2(t)
	detached.reset()
	sender.waitUnwritable(detached)
	body := pattern(5000, 1)
	queued := sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, detached.id)
	if sender.hasDataWithin(time.Second) {
		t.Error("reported although the receiver can resume and no sender is blocked")
	}
	blocked := sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, detached.id)
	sender.expectReport(queued, wire.FateGone)
	sender.expectReport(blocked, wire.FateGone)
	h.waitDisconnected(t, hub.CloseStalled, 1)
}

// TestOverflow_DropOldest_KeepsOrder checks that the space of a dropped message goes to the
// message that is blocked, and that the newer message comes after that one.
func TestOverflow_DropOldest_KeepsOrder(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 4 << 10, ResumeWindow: time.Minute})
	sender, detached := h.connectV2(t), h.connectV2(t)
	detached.reset()
	sender.waitUnwritable(detached)
	body := pattern(5000, 1)
	dropOldest := wire.MakeOptions(wire.LevelWritten, wire.OverflowDropOldest)
	dropped := sender.sendMessage(body, dropOldest, 0, detached.id)
	blocked := sender.sendMessage(body, levelOptions(wire.LevelWritten), 0, detached.id)
	behind := sender.sendMessage(body, dropOldest, 0, detached.id)
	sender.expectReport(dropped, wire.FateFull)
	back := h.resume(t, detached)
	for _, seq := range []uint64{blocked, behind} {
		back.expectDeliver(sender.id, seq, body)
		sender.expectReport(seq, wire.FateWritten)
	}
}

func TestSend_Expired_IsNotWritten(t *testing.T) {
	h := start(t, hub.Config{ResumeWindow: time.Minute})
	sender, detached := h.connectV2(t), h.connectV2(t)
	detached.reset()
	h.waitDetached(t, detached)
	stale := sender.sendMessage([]byte("stale"), 0, 30, detached.id) // without a report
	reported := sender.sendMessage([]byte("stale"), levelOptions(wire.LevelReceived), 30, detached.id)
	sender.expectReport(reported, wire.FateExpired)
	base := h.Stats().Fates[wire.FateExpired]
	fresh := sender.sendMessage([]byte("fresh"), 0, 60_000, detached.id)
	sender.awaitPong()
	h.resume(t, detached).expectDeliver(sender.id, fresh, []byte("fresh"))
	if n := h.Stats().Fates[wire.FateExpired] - base; n != 1 {
		t.Errorf("%d messages without a report expired, want %d", n, stale)
	}
}

func TestReport_Timeout_ReportsCurrentFates(t *testing.T) {
	h := start(t, hub.Config{ReportTimeout: 50 * time.Millisecond, OutboxBytes: 4 << 10, ResumeWindow: time.Minute})
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
}

func TestBye_EndsSession(t *testing.T) {
	h := start(t, hub.Config{})
	sender, receiver := h.connectV2(t), h.connectV2(t)
	receiver.withholdsAcks = true
	seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, receiver.id)
	receiver.expectDeliver(sender.id, seq, []byte("x"))
	receiver.send(wire.AppendBye(nil))
	receiver.expectEOF()
	sender.expectReport(seq, wire.FateUncertain)
	if again := h.resume(t, receiver); again.Resumed {
		t.Error("a session that ended with BYE was resumed")
	}
}

// TestReport_ReceiverLeavesBeforeVerdict_IsUncertain has a receiver acknowledge a message and
// leave before it sends its verdict.
func TestReport_ReceiverLeavesBeforeVerdict_IsUncertain(t *testing.T) {
	h := start(t, hub.Config{})
	sender, receiver := h.connectV2(t), h.connectV2(t)
	seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelProcessed), 0, receiver.id)
	receiver.expectDeliver(sender.id, seq, []byte("x"))
	receiver.awaitPong() // the hub has handled the ACK as well
	receiver.send(wire.AppendBye(nil))
	sender.expectReport(seq, wire.FateUncertain)
}

func TestProtocolV2_MalformedFrame_GetsGoAway(t *testing.T) {
	send := func(count byte, ids int) []byte {
		frame := wire.AppendSend(nil, 1, 0, 0, make([]uint64, ids), nil)
		frame[wire.HeaderSize+16] = count
		return frame
	}
	for _, test := range []struct {
		name string
		say  []byte
	}{
		{"SEND shorter than its receiver count", send(3, 2)},
		{"SEND with unknown options", wire.AppendSend(nil, 1, 1<<7, 0, []uint64{1}, nil)},
		{"SEND without a header", []byte{0, 0, 0, 2, byte(wire.TypeSend), 1}},
		{"ACK of a frame that was never sent", wire.AppendAck(nil, 1)},
		{"ACK with half a number", []byte{0, 0, 0, 3, byte(wire.TypeAck), 1, 2}},
		{"VERDICT with half an entry", []byte{0, 0, 0, 3, byte(wire.TypeVerdict), 1, 2}},
		{"VERDICT with a fate that is no verdict", wire.AppendVerdicts(nil, []wire.Verdict{{Sender: 1, Seq: 1, Fate: wire.FateGone}})},
		{"PING without a number", []byte{0, 0, 0, 1, byte(wire.TypePing)}},
		{"LIST_RANGE too short", []byte{0, 0, 0, 2, byte(wire.TypeListRange), 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := start(t, hub.Config{})
			bystanders := h.startBystanders(t)
			c := h.connectV2(t)
			c.send(test.say)
			if away := c.expectGoAway(wire.GoAwayProtocol); away.Reconnect || away.Reason == "" {
				t.Errorf("GOAWAY %+v", away)
			}
			h.waitDisconnected(t, hub.CloseMalformed, 1)
			bystanders.waitRounds(2)

		})
	}
}

func TestError_Connection_StaysOpen(t *testing.T) {
	h := start(t, hub.Config{MaxBody: 1000})
	c := h.connectV2(t)
	c.sendMessage([]byte("x"), 0, 0, c.id)
	c.expectDeliver(c.id, 1, []byte("x"))
	for _, test := range []struct {
		say  []byte
		seq  uint64
		code wire.ErrorCode
	}{
		{wire.AppendSend(nil, 1, 0, 0, nil, nil), 1, wire.ErrorSeq},
		{wire.AppendSend(nil, 2, 0, 0, []uint64{c.id}, make([]byte, 1001)), 2, wire.ErrorBody},
		{wire.AppendHello(nil, &wire.Hello{Version: 2}), 0, wire.ErrorFrame},
		{wire.AppendReport(nil, 1, nil), 0, wire.ErrorFrame},
	} {
		c.send(test.say)
		kind, payload := c.nextFrame()
		e, err := wire.ParseError(payload)
		if kind != wire.TypeError || err != nil || e.Seq != test.seq || e.Code != test.code || len(e.Text) == 0 {
			t.Errorf("type %#x, %+v, %v; want code %d for %d", kind, e, err, test.code, test.seq)
		}
	}
	c.awaitPong()
}

func TestShutdown_GoAway_AsksToReconnect(t *testing.T) {
	h := start(t, hub.Config{})
	receiver, sender := h.connectV2(t), h.connectV2(t)
	seq := sender.sendMessage([]byte("last message"), 0, 0, receiver.id)
	sender.awaitPong()
	background(t, func() error { return h.Shutdown(context.WithoutCancel(t.Context())) })
	receiver.expectDeliver(sender.id, seq, []byte("last message"))
	if away := receiver.expectGoAway(wire.GoAwayShutdown); !away.Reconnect {
		t.Error("GOAWAY at shutdown does not ask to reconnect")
	}
	sender.expectGoAway(wire.GoAwayShutdown)
}

// TestReplyQueue_FullWindow_AcksAreRead sends PINGs while the send window of the client is
// full. The hub must read on, because the ACK comes after the PINGs.
func TestReplyQueue_FullWindow_AcksAreRead(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 4 << 10, Window: 2 << 20})
	sender, receiver := h.connectV2(t), h.connectV2(t)
	receiver.withholdsAcks = true
	body := pattern(1<<20, 1)
	background(t, func() error {
		var frames []byte
		for seq := uint64(1); seq <= 4; seq++ {
			frames = wire.AppendSend(frames, seq, 0, 0, []uint64{receiver.id}, body)
		}
		_, err := sender.Write(frames)
		return err
	})
	receiver.expectDeliver(sender.id, 1, body)
	receiver.expectDeliver(sender.id, 2, body) // the window is full
	const pings = 10
	for n := range uint64(pings) {
		receiver.send(wire.AppendPing(nil, n))
		// The frames are the HELLOs, the SENDs, and the PINGs so far.
		eventually(t, "the PING is read", func() bool { return h.Stats().MessagesIn >= 2+2+n })
	}
	receiver.send(wire.AppendAck(nil, receiver.received))
	messages, pongs := uint64(2), 0
	for messages < 4 || pongs < pings {
		kind, payload := receiver.nextFrame()
		switch kind {
		case wire.TypePong:
			pongs++
		case wire.TypeDeliver:
			messages++
			if d, err := wire.ParseDeliver(payload); err != nil || d.Seq != messages {
				t.Fatalf("message %d, want %d: %v", d.Seq, messages, err)
			}
			receiver.send(wire.AppendAck(nil, receiver.received))
		default:
			t.Fatalf("a frame of type %#x", kind)
		}
	}
}

// TestProtocolV2_RelaysBeyondWindow_AreDelivered has a client of version 2 send relays of
// version 1 to itself, more than its window of unacknowledged bytes.
func TestProtocolV2_RelaysBeyondWindow_AreDelivered(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 4 << 10})
	c := h.connectV2(t)
	body := pattern(1<<20, 1)
	const messages = 5
	background(t, func() error {
		var frames []byte
		for range messages {
			frames = wire.AppendRelay(frames, []uint64{c.id}, body)
		}
		_, err := c.Write(frames)
		return err
	})
	for range messages {
		c.expectDeliver(c.id, 0, body)
	}
}

// TestReport_MaxReports_BlocksSender sends more messages that ask for a verdict than
// MaxReports.
func TestReport_MaxReports_BlocksSender(t *testing.T) {
	const maxReports, messages = 4, 10
	h := start(t, hub.Config{MaxReports: maxReports})
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
}

// TestCredit_Exceeded_SenderIsNotRead floods a detached receiver. The hub reads no more than
// the credit of the sender, and the bystanders are served.
func TestCredit_Exceeded_SenderIsNotRead(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 64 << 10, StallTimeout: time.Hour, ResumeWindow: time.Hour})
	bystanders := h.startBystanders(t)
	sender, detached := h.connectV2(t), h.connectV2(t)
	detached.reset()
	h.waitDetached(t, detached)
	const messages = 400
	body := pattern(10_000, 1)
	background(t, func() error {
		for seq := uint64(1); seq <= messages; seq++ {
			if _, err := sender.Write(wire.AppendSend(nil, seq, 0, 0, []uint64{detached.id}, body)); err != nil {
				return err
			}
		}
		return nil
	})
	eventually(t, "the credit is used up", func() bool { return h.Stats().QueuedBytes > int64(sender.Credit) })
	bystanders.waitRounds(20)
	bystanders.end() // their messages are kept until they are acknowledged
	maxQueued := int64(64<<10 + sender.Credit + 512<<10)
	eventually(t, "the queued bytes are bounded", func() bool { return h.Stats().QueuedBytes <= maxQueued })
	back := h.resume(t, detached)
	for seq := uint64(1); seq <= messages; seq++ {
		back.expectDeliver(sender.id, seq, body)
	}
}
