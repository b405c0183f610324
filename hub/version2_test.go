package hub_test

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// sizes are those of bodies that go different ways through the hub: encoded behind
// others, referred to in a read buffer, and in a buffer of their own.
var sizes = []int{0, 1, 100, 5000, 60_000, 100_000, 1 << 20}

func TestBothVersionsHearEachOther(t *testing.T) {
	h := start(t, hub.Config{})
	sender, guest, classic := h.guest(t), h.guest(t), h.peer(t)
	for i, size := range sizes {
		body := pattern(size, byte(i))
		seq := sender.tell(body, 0, 0, guest.id, classic.id)
		d := guest.delivered(sender.id, seq, body)
		if age := time.Since(time.UnixMicro(int64(d.Time))); age < -time.Second || age > patience {
			t.Errorf("time of a message that was just sent: %v ago", age)
		}
		classic.hears(body)

		classic.relay(body, guest.id, classic.id)
		guest.delivered(classic.id, 0, body)
		classic.hears(body)

		sender.relay(body, guest.id, sender.id) // the frames of version 1 stay valid
		guest.delivered(sender.id, 0, body)
		sender.delivered(sender.id, 0, body)

		seq = sender.tell(body, 0, 0, guest.id) // the tightest fit of a head
		guest.delivered(sender.id, seq, body)
	}
}

func TestReportAtEachLevel(t *testing.T) {
	h := start(t, hub.Config{})
	sender, guest, classic := h.guest(t), h.guest(t), h.peer(t)
	for i, size := range sizes {
		body := pattern(size, byte(i))

		seq := sender.tell(body, only(wire.LevelWritten), 0, guest.id, 999_999, classic.id)
		guest.delivered(sender.id, seq, body)
		classic.hears(body)
		sender.reported(seq, wire.FateWritten, wire.FateUnknown, wire.FateWritten)

		seq = sender.tell(body, only(wire.LevelReceived), 0, guest.id, classic.id, guest.id)
		for range 2 {
			if d := guest.delivered(sender.id, seq, body); d.Flags != wire.FlagReceived {
				t.Errorf("flags %v, want FlagReceived", d.Flags)
			}
		}
		classic.hears(body)
		sender.reported(seq, wire.FateReceived, wire.FateWritten, wire.FateReceived)

		for _, verdict := range []wire.Fate{wire.FateProcessed, wire.FateRejected} {
			seq = sender.tell(body, only(wire.LevelProcessed), 0, guest.id)
			guest.delivered(sender.id, seq, body)
			guest.send(wire.AppendAcks(nil, []wire.Ack{{Sender: sender.id, Seq: seq, Fate: verdict}}))
			sender.reported(seq, verdict)
		}
	}
	seq := sender.tell(nil, only(wire.LevelReceived), 0)
	sender.reported(seq)
}

// TestReportsOfARun pipelines messages that the hub takes as one run.
func TestReportsOfARun(t *testing.T) {
	const messages = 2000
	h := start(t, hub.Config{})
	sender, guests := h.guest(t), []*guest{h.guest(t), h.guest(t), h.guest(t)}
	to := []uint64{guests[0].id, guests[1].id, guests[2].id}
	background(t, func() error {
		var all []byte
		for seq := uint64(1); seq <= messages; seq++ {
			all = wire.AppendSend(all, seq, only(wire.LevelReceived), 0, to, []byte("run"))
		}
		_, err := sender.Write(all)
		return err
	})
	for _, g := range guests {
		g.mute = true
	}
	reports := make(map[uint64]bool)
	for seq := uint64(1); seq <= messages; seq++ {
		for _, g := range guests {
			g.delivered(sender.id, seq, []byte("run"))
		}
		if seq%97 == 0 || seq == messages {
			for i, g := range guests {
				g.send(wire.AppendTaken(nil, g.had-uint64(i)*7%g.had))
				g.send(wire.AppendTaken(nil, g.had))
			}
			for sender.had < seq { // in any order
				kind, payload := sender.read()
				r, err := wire.ParseReport(payload)
				if kind != wire.TypeReport || err != nil || !bytes.Equal(r.Fates, []byte{3, 3, 3}) || reports[r.Seq] {
					t.Fatalf("type %#x, %+v, %v; a report of it came before: %v", kind, r, err, reports[r.Seq])
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

func TestWhatTheReceiverHasNotHadComesAgain(t *testing.T) {
	for _, size := range sizes {
		h := start(t, hub.Config{})
		sender, first := h.guest(t), h.guest(t)
		body := pattern(size, 1)
		for i := range 3 {
			first.mute = i == 2 // it crashes with the third in its hands
			first.delivered(sender.id, sender.tell(body, only(wire.LevelReceived), 0, first.id), body)
		}
		first.had = 2
		first.reset()
		late := sender.tell(body, only(wire.LevelReceived), 0, first.id)

		second := h.back(t, first)
		if !second.Resumed || second.ID != first.ID || second.Again < 1 {
			t.Fatalf("came back as %+v, was %d", second.Welcome, first.ID)
		}
		sender.reported(late-3, wire.FateReceived)
		sender.reported(late-2, wire.FateReceived)
		second.delivered(sender.id, late-1, body)
		second.delivered(sender.id, late, body)
		sender.reported(late-1, wire.FateReceived)
		sender.reported(late, wire.FateReceived)
	}
}

// TestTheSenderComesBack loses the sender's connection: its reports wait for it, and
// it learns which SEND was the last that the hub has.
func TestTheSenderComesBack(t *testing.T) {
	h := start(t, hub.Config{})
	sender, guest := h.guest(t), h.guest(t)
	seq := sender.tell([]byte("a"), only(wire.LevelReceived), 0, guest.id)
	guest.delivered(sender.id, seq, []byte("a"))
	sender.reported(seq, wire.FateReceived)
	guest.mute = true
	seq = sender.tell([]byte("b"), only(wire.LevelReceived), 0, guest.id)
	guest.delivered(sender.id, seq, []byte("b"))
	sender.reset()
	guest.send(wire.AppendTaken(nil, guest.had))
	guest.catchUp()

	again := h.back(t, sender)
	if !again.Resumed || again.Welcome.Seq != seq {
		t.Fatalf("came back as %+v, want Seq %d", again.Welcome, seq)
	}
	again.reported(seq, wire.FateReceived)
	seq = again.tell([]byte("c"), 0, 0, guest.id)
	guest.delivered(sender.id, seq, []byte("c"))
}

// catchUp returns when the hub has handled everything that was said before.
func (g *guest) catchUp() {
	g.t.Helper()
	g.send(wire.AppendPing(nil, 77))
	if kind, _ := g.read(); kind != wire.TypePong {
		g.t.Fatalf("a frame of type %#x, want PONG", kind)
	}
}

func TestAnotherConnectionTakesOver(t *testing.T) {
	h := start(t, hub.Config{})
	sender, first := h.guest(t), h.guest(t)
	second := h.back(t, first)
	if !second.Resumed || second.ID != first.ID {
		t.Fatalf("came back as %+v, was %d", second.Welcome, first.ID)
	}
	if away := first.sentAway(wire.GoAwayTakenOver); away.Reconnect {
		t.Error("the one who was taken over is asked to come back")
	}
	second.delivered(sender.id, sender.tell([]byte("x"), 0, 0, first.id), []byte("x"))
	if ids := sender.page(0, 0); !slices.Equal(ids, []uint64{sender.id, first.ID}) {
		t.Errorf("listed: %v", ids)
	}
}

// page asks for a page of the list.
func (g *guest) page(after uint64, limit uint32) []uint64 {
	g.t.Helper()
	g.send(wire.AppendListRange(nil, wire.ListRange{After: after, Limit: limit}))
	kind, payload := g.read()
	p, err := wire.ParseListPage(payload)
	if kind != wire.TypeListPage || err != nil {
		g.t.Fatalf("a frame of type %#x, want LIST_PAGE: %v", kind, err)
	}
	return p.IDs.AppendTo(nil)
}

func TestWhoComesBackTooLateIsSomebodyNew(t *testing.T) {
	h := start(t, hub.Config{ResumeWindow: 50 * time.Millisecond})
	sender, first := h.guest(t), h.guest(t)
	first.mute = true
	heard := sender.tell([]byte("heard"), only(wire.LevelReceived), 0, first.id)
	first.delivered(sender.id, heard, []byte("heard"))
	first.reset()
	sender.reported(heard, wire.FateUncertain)
	h.disconnected(t, hub.ReasonLost, 1)
	lost := sender.tell([]byte("lost"), only(wire.LevelReceived), 0, first.id)
	sender.reported(lost, wire.FateUnknown)
	if second := h.back(t, first); second.Resumed || second.ID == first.ID {
		t.Errorf("came back as %+v, was %d", second.Welcome, first.ID)
	}
}

func TestWhatWaitsForOneWhoNeverComesBackIsGone(t *testing.T) {
	h := start(t, hub.Config{ResumeWindow: 200 * time.Millisecond})
	sender, first := h.guest(t), h.guest(t)
	first.reset()
	eventually(t, "the hub knows that the connection is lost", func() bool {
		seq := sender.tell([]byte("x"), wire.MakeOptions(wire.LevelWritten, wire.OverloadWait), 10, first.id)
		kind, payload := sender.read()
		r, err := wire.ParseReport(payload)
		if kind != wire.TypeReport || err != nil || r.Seq != seq {
			t.Fatalf("type %#x, %v", kind, err)
		}
		return wire.Fate(r.Fates[0]) == wire.FateExpired
	})
	seq := sender.tell([]byte("x"), only(wire.LevelReceived), 0, first.id)
	sender.reported(seq, wire.FateGone)
}

func TestAForgedSecretResumesNothing(t *testing.T) {
	h := start(t, hub.Config{})
	sender, first := h.guest(t), h.guest(t)
	for _, secret := range []string{"x", first.Resume + "x", sender.Resume} {
		forged := h.hello(t, wire.Hello{Version: wire.Version2, ID: first.ID, Resume: secret})
		if forged.Resumed || forged.ID == first.ID {
			t.Errorf("with the secret %q somebody came in as %+v", secret, forged.Welcome)
		}
	}
	first.delivered(sender.id, sender.tell([]byte("x"), 0, 0, first.id), []byte("x"))
}

func TestAFullQueueFailsOrDropsIfAsked(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 64 << 10, ResumeWindow: time.Minute})
	sender, away := h.guest(t), h.guest(t)
	away.reset() // nothing is written to it, everything waits
	sender.unreachable(away)
	body := pattern(20_000, 1)
	fail, drop := wire.MakeOptions(wire.LevelWritten, wire.OverloadFail), wire.MakeOptions(wire.LevelWritten, wire.OverloadDrop)
	var kept []uint64
	for range 4 {
		kept = append(kept, sender.tell(body, drop, 0, away.id))
	}
	full := sender.tell(body, fail, 0, away.id)
	sender.reported(full, wire.FateFull)
	last := sender.tell(body, drop, 0, away.id)
	sender.reported(kept[0], wire.FateFull)
	kept = append(kept[1:], last)
	back := h.back(t, away)
	for _, seq := range kept {
		back.delivered(sender.id, seq, body)
		sender.reported(seq, wire.FateWritten)
	}
}

// unreachable waits until nothing is written to another guest any more.
func (g *guest) unreachable(other *guest) {
	g.t.Helper()
	eventually(g.t, "detached", func() bool {
		seq := g.tell(nil, only(wire.LevelWritten), 5, other.id)
		_, payload := g.read()
		r, _ := wire.ParseReport(payload)
		return r.Seq == seq && len(r.Fates) == 1 && wire.Fate(r.Fates[0]) == wire.FateExpired
	})
}

// TestOthersWaitOnlySoLongForOneWhoMayComeBack: for a place in its queue as long as for one that does not read,
// and while there are places, until it is expected no more.
func TestOthersWaitOnlySoLongForOneWhoMayComeBack(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 4 << 10, StallTimeout: 500 * time.Millisecond, ResumeWindow: time.Minute})
	sender, away := h.guest(t), h.guest(t)
	away.reset()
	sender.unreachable(away)
	body := pattern(5000, 1)
	queued := sender.tell(body, only(wire.LevelReceived), 0, away.id)
	if sender.answersWithin(time.Second) {
		t.Error("reported, though it may come back and nobody waits")
	}
	waits := sender.tell(body, only(wire.LevelReceived), 0, away.id)
	sender.reported(queued, wire.FateGone)
	sender.reported(waits, wire.FateGone)
	h.disconnected(t, hub.ReasonStalled, 1)
}

// TestWhatGivesWayLetsInWhoCameBefore: the room that a dropped message leaves belongs to
// the one that waits, and the newer one comes behind it.
func TestWhatGivesWayLetsInWhoCameBefore(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 4 << 10, ResumeWindow: time.Minute})
	sender, away := h.guest(t), h.guest(t)
	away.reset()
	sender.unreachable(away)
	body := pattern(5000, 1)
	drop := wire.MakeOptions(wire.LevelWritten, wire.OverloadDrop)
	dropped := sender.tell(body, drop, 0, away.id)
	waits := sender.tell(body, only(wire.LevelWritten), 0, away.id)
	behind := sender.tell(body, drop, 0, away.id)
	sender.reported(dropped, wire.FateFull)
	back := h.back(t, away)
	for _, seq := range []uint64{waits, behind} {
		back.delivered(sender.id, seq, body)
		sender.reported(seq, wire.FateWritten)
	}
}

func TestAnExpiredMessageIsNotSent(t *testing.T) {
	h := start(t, hub.Config{ResumeWindow: time.Minute})
	sender, away := h.guest(t), h.guest(t)
	away.reset()
	h.detached(t, away)
	stale := sender.tell([]byte("stale"), 0, 30, away.id) // nobody asks for a report
	told := sender.tell([]byte("stale"), only(wire.LevelReceived), 30, away.id)
	sender.reported(told, wire.FateExpired)
	base := h.Stats().Fates[wire.FateExpired]
	fresh := sender.tell([]byte("fresh"), 0, 60_000, away.id)
	sender.catchUp()
	h.back(t, away).delivered(sender.id, fresh, []byte("fresh"))
	if n := h.Stats().Fates[wire.FateExpired] - base; n != 1 {
		t.Errorf("%d messages expired unnoticed, want %d", n, stale)
	}
}

// detached waits until the hub has found out that a guest's connection is lost.
func (s *testHub) detached(t testing.TB, g *guest) {
	t.Helper()
	probe := s.guest(t)
	eventually(t, "detached", func() bool {
		seq := probe.tell([]byte("?"), wire.MakeOptions(wire.LevelWritten, wire.OverloadWait), 5, g.id)
		_, payload := probe.read()
		r, err := wire.ParseReport(payload)
		return err == nil && r.Seq == seq && wire.Fate(r.Fates[0]) == wire.FateExpired
	})
	probe.send(wire.AppendBye(nil))
	probe.closed()
}

func TestAReportStandsAsItIsWhenItsTimeIsUp(t *testing.T) {
	h := start(t, hub.Config{ReportTimeout: 50 * time.Millisecond, OutboxBytes: 4 << 10, ResumeWindow: time.Minute})
	sender, slow, away := h.guest(t), h.guest(t), h.guest(t)
	away.reset()
	h.detached(t, away)
	base := h.Stats().Fates[wire.FateExpired]
	slow.mute = true
	body := pattern(5000, 1)
	queued := sender.tell(body, only(wire.LevelReceived), 0, slow.id, away.id)
	sender.reported(queued, wire.FateWritten, wire.FateQueued)
	pending := sender.tell(body, only(wire.LevelReceived), 0, away.id)
	sender.reported(pending, wire.FatePending)
	processed := sender.tell(body, only(wire.LevelProcessed), 0, slow.id)
	slow.delivered(sender.id, queued, body)
	slow.delivered(sender.id, processed, body)
	slow.send(wire.AppendTaken(nil, slow.had))
	sender.reported(processed, wire.FateReceived)
	slow.send(wire.AppendAcks(nil, []wire.Ack{{Sender: sender.id, Seq: processed, Fate: wire.FateProcessed}})) // too late
	slow.catchUp()
	if n := h.Stats().Fates[wire.FateExpired]; n != base {
		t.Errorf("%d messages without a time expired", n-base)
	}
}

func TestByeLeavesForGood(t *testing.T) {
	h := start(t, hub.Config{})
	sender, guest := h.guest(t), h.guest(t)
	guest.mute = true
	seq := sender.tell([]byte("x"), only(wire.LevelReceived), 0, guest.id)
	guest.delivered(sender.id, seq, []byte("x"))
	guest.send(wire.AppendBye(nil))
	guest.closed()
	sender.reported(seq, wire.FateUncertain)
	if again := h.back(t, guest); again.Resumed {
		t.Error("one who has left for good came back")
	}
}

// TestNobodySaysWhatBecameOfIt: a receiver leaves that has had a message, and has not said
// what its application made of it.
func TestNobodySaysWhatBecameOfIt(t *testing.T) {
	h := start(t, hub.Config{})
	sender, guest := h.guest(t), h.guest(t)
	seq := sender.tell([]byte("x"), only(wire.LevelProcessed), 0, guest.id)
	guest.delivered(sender.id, seq, []byte("x"))
	guest.catchUp() // with what was received
	guest.send(wire.AppendBye(nil))
	sender.reported(seq, wire.FateUncertain)
}

// TestTwoTakeOverAtOnce: both have the secret, and neither is somebody new. The one that has
// connected last goes on, even if the other's HELLO is heard later: a client gives a connection up
// before it makes another.
func TestTwoTakeOverAtOnce(t *testing.T) {
	h := start(t, hub.Config{})
	sender := h.guest(t)
	for range 20 {
		first := h.guest(t)
		var both [2]*peer
		hello := wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, ID: first.ID, Resume: first.Resume})
		for i := range both {
			both[i] = h.silent(t)
		}
		for _, p := range both {
			p.send(hello)
		}
		for i, p := range both {
			kind, payload := p.frame()
			w, err := wire.ParseWelcome(payload)
			switch {
			case kind == wire.TypeWelcome && err == nil && w.Resumed && w.ID == first.ID:
			case kind == wire.TypeGoAway && i == 0 && strings.Contains(string(payload), string(wire.GoAwayTakenOver)):
			default:
				t.Fatalf("connection %d: a frame of type %#x: %s", i, kind, payload)
			}
		}
		last := &guest{peer: both[1]}
		last.catchUp()
		first.sentAway(wire.GoAwayTakenOver)
		if ids := sender.page(first.ID-1, 0); !slices.Contains(ids, first.ID) {
			t.Errorf("listed: %v", ids)
		}
	}
}

func TestPages(t *testing.T) {
	h := start(t, hub.Config{})
	g := h.guest(t)
	ids := []uint64{g.id}
	for range 5 {
		ids = append(ids, h.peer(t).id)
	}
	slices.Sort(ids)
	for _, test := range []struct {
		after uint64
		limit uint32
		want  []uint64
	}{
		{0, 0, ids}, {0, 2, ids[:2]}, {ids[1], 2, ids[2:4]}, {ids[5], 0, nil}, {ids[0], 1 << 31, ids[1:]},
	} {
		if got := g.page(test.after, test.limit); !slices.Equal(got, test.want) {
			t.Errorf("after %d, %d of them: %v, want %v", test.after, test.limit, got, test.want)
		}
	}
}

func TestWhatAGuestMustNotSay(t *testing.T) {
	send := func(count byte, ids int) []byte {
		f := wire.AppendSend(nil, 1, 0, 0, make([]uint64, ids), nil)
		f[wire.HeaderSize+16] = count
		return f
	}
	for _, test := range []struct {
		name string
		say  []byte
	}{
		{"SEND shorter than its count", send(3, 2)},
		{"SEND with options that mean nothing", wire.AppendSend(nil, 1, 1<<7, 0, []uint64{1}, nil)},
		{"SEND without a head", []byte{0, 0, 0, 2, byte(wire.TypeSend), 1}},
		{"TAKEN of what was never sent", wire.AppendTaken(nil, 1)},
		{"TAKEN of half a number", []byte{0, 0, 0, 3, byte(wire.TypeTaken), 1, 2}},
		{"ACK of half an entry", []byte{0, 0, 0, 3, byte(wire.TypeAck), 1, 2}},
		{"ACK with a fate that is not for it", wire.AppendAcks(nil, []wire.Ack{{Sender: 1, Seq: 1, Fate: wire.FateGone}})},
		{"PING without a number", []byte{0, 0, 0, 1, byte(wire.TypePing)}},
		{"LIST_RANGE too short", []byte{0, 0, 0, 2, byte(wire.TypeListRange), 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := start(t, hub.Config{})
			watch := h.bystand(t)
			g := h.guest(t)
			g.send(test.say)
			if away := g.sentAway(wire.GoAwayProtocol); away.Reconnect || away.Reason == "" {
				t.Errorf("sent away with %+v", away)
			}
			h.disconnected(t, hub.ReasonMalformed, 1)
			watch.pass(2)

		})
	}
}

func TestHelloThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		name string
		say  []byte
		code wire.GoAwayCode
	}{
		{"version 3", wire.AppendHello(nil, &wire.Hello{Version: 3}), wire.GoAwayVersion},
		{"no version", wire.AppendHello(nil, &wire.Hello{}), wire.GoAwayVersion},
		{"no JSON", []byte{0, 0, 0, 2, byte(wire.TypeHello), '{'}, wire.GoAwayProtocol},
		{"too long", append([]byte{0, 0, 0x50, 1, byte(wire.TypeHello)}, make([]byte, 0x5000)...), wire.GoAwayProtocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &guest{peer: start(t, hub.Config{}).silent(t)}
			g.send(test.say)
			g.sentAway(test.code)
		})
	}
}

func TestErrorsLeaveTheConnectionAlive(t *testing.T) {
	h := start(t, hub.Config{MaxBody: 1000})
	g := h.guest(t)
	g.tell([]byte("x"), 0, 0, g.id)
	g.delivered(g.id, 1, []byte("x"))
	for _, test := range []struct {
		say  []byte
		seq  uint64
		code wire.ErrorCode
	}{
		{wire.AppendSend(nil, 1, 0, 0, nil, nil), 1, wire.ErrorSeq},
		{wire.AppendSend(nil, 2, 0, 0, []uint64{g.id}, make([]byte, 1001)), 2, wire.ErrorBody},
		{wire.AppendHello(nil, &wire.Hello{Version: 2}), 0, wire.ErrorFrame},
		{wire.AppendReport(nil, 1, nil), 0, wire.ErrorFrame},
	} {
		g.send(test.say)
		kind, payload := g.read()
		e, err := wire.ParseError(payload)
		if kind != wire.TypeError || err != nil || e.Seq != test.seq || e.Code != test.code || len(e.Text) == 0 {
			t.Errorf("type %#x, %+v, %v; want code %d for %d", kind, e, err, test.code, test.seq)
		}
	}
	g.catchUp()
}

func TestShutdownTellsWhenToComeBack(t *testing.T) {
	h := start(t, hub.Config{})
	g, other := h.guest(t), h.guest(t)
	seq := other.tell([]byte("last words"), 0, 0, g.id)
	other.catchUp()
	background(t, func() error { return h.Shutdown(context.WithoutCancel(t.Context())) })
	g.delivered(other.id, seq, []byte("last words"))
	if away := g.sentAway(wire.GoAwayShutdown); !away.Reconnect {
		t.Error("GOAWAY at shutdown does not ask to come back")
	}
	other.sentAway(wire.GoAwayShutdown)
}

func TestSilenceEndsAConnection(t *testing.T) {
	h := start(t, hub.Config{KeepAlive: 50 * time.Millisecond, ResumeWindow: 10 * time.Millisecond})
	classic := h.peer(t)
	for n := range uint64(3) {
		g := h.guest(t)
		if kind, _ := g.frame(); kind != wire.TypePing {
			t.Fatalf("a frame of type %#x, want PING", kind)
		}
		h.disconnected(t, hub.ReasonTimeout, n+1)
	}
	classic.fence() // it may be silent for as long as it likes
}

// watcher is a guest that keeps a set of who is there.
type watcher struct {
	*guest
	revision uint64
	there    map[uint64]bool
	frames   int
}

func (g *guest) watch(since uint64) *watcher {
	g.send(wire.AppendWatch(nil, wire.Watch{On: true, Since: since}))
	return &watcher{guest: g, there: map[uint64]bool{}}
}

// follow reads PRESENCE until the set is what holds wants.
func (w *watcher) follow(holds func() bool) {
	w.t.Helper()
	for more := true; more || !holds(); {
		kind, payload := w.read()
		p, err := wire.ParsePresence(payload)
		if kind != wire.TypePresence || err != nil {
			w.t.Fatalf("a frame of type %#x, want PRESENCE: %v", kind, err)
		}
		if p.Flags&wire.PresenceSnapshot != 0 {
			clear(w.there)
		}
		for id := range p.Joined.All() {
			w.there[id] = true
		}
		for id := range p.Left.All() {
			delete(w.there, id)
		}
		more = p.Flags&wire.PresenceMore != 0
		w.revision = p.Revision
		w.frames++
	}
}

func TestAWatcherSeesWhoComesAndGoes(t *testing.T) {
	h := start(t, hub.Config{})
	early := h.peer(t)
	w := h.guest(t).watch(0)
	w.follow(func() bool { return len(w.there) == 2 && w.there[early.id] && w.there[w.id] })

	const many = 1000
	frames := w.frames
	late := make([]*peer, many)
	for i := range late {
		late[i] = h.peer(t)
	}
	w.follow(func() bool { return len(w.there) == 2+many })
	if n := w.frames - frames; n > many/10 {
		t.Errorf("%d frames for %d clients who came together", n, many)
	}
	for _, p := range late {
		p.Close()
	}
	early.Close()
	w.follow(func() bool { return len(w.there) == 1 && w.there[w.id] })
}

func TestAWatcherGoesOnWhereItWas(t *testing.T) {
	h := start(t, hub.Config{})
	w := h.guest(t).watch(0)
	w.follow(func() bool { return len(w.there) == 1 })
	w.send(wire.AppendWatch(nil, wire.Watch{}))
	w.catchUp()
	came, brief := h.peer(t), h.peer(t)
	brief.Close()
	eventually(t, "one has left", func() bool { return h.Stats().Clients == 2 })
	before := w.there
	again := w.guest.watch(w.revision)
	again.there = before
	again.follow(func() bool { return true })
	if again.frames != 1 || len(again.there) != 2 || !again.there[came.id] {
		t.Errorf("after %d frames it knows of %v", again.frames, again.there)
	}
	stranger := h.guest(t).watch(1 << 60) // of another hub, or another life of this one
	stranger.there[424242] = true
	stranger.follow(func() bool { return len(stranger.there) == 3 })
}

// unheard reads the ERROR that says that this one watches in vain.
func (g *guest) unheard() {
	g.t.Helper()
	kind, payload := g.read()
	e, err := wire.ParseError(payload)
	if kind != wire.TypeError || err != nil || e.Code != wire.ErrorWatchers || e.Seq != 0 || len(e.Text) == 0 {
		g.t.Fatalf("a frame of type %#x, %+v, %v, want ERROR %d", kind, e, err, wire.ErrorWatchers)
	}
}

// TestSoManyWatchers lets no more clients watch than may, and another when one has ended, in
// whatever way.
func TestSoManyWatchers(t *testing.T) {
	for way, end := range map[string]func(h *testHub, w *guest){
		"it says so":      func(_ *testHub, w *guest) { w.send(wire.AppendWatch(nil, wire.Watch{})) },
		"bye":             func(_ *testHub, w *guest) { w.send(wire.AppendBye(nil)) },
		"a broken link":   func(_ *testHub, w *guest) { w.reset() },
		"it comes back":   func(h *testHub, w *guest) { w.reset(); h.back(w.t, w) },
		"it takes over":   func(h *testHub, w *guest) { h.back(w.t, w) },
		"the operator":    func(h *testHub, w *guest) { h.Disconnect(w.id, false) },
		"what cannot be":  func(_ *testHub, w *guest) { w.send(wire.AppendTaken(nil, 1<<60)) },
		"half of a frame": func(_ *testHub, w *guest) { w.send([]byte{0}); w.Close() },
	} {
		t.Run(way, func(t *testing.T) {
			log := &logbook{}
			h := start(t, hub.Config{MaxWatchers: 2, Logger: log.logger(), ResumeWindow: time.Hour})
			first, second, third := h.guest(t).watch(0), h.guest(t).watch(0), h.guest(t)
			first.follow(func() bool { return len(first.there) == 3 })
			second.follow(func() bool { return len(second.there) == 3 })
			third.watch(0)
			third.unheard()
			second.guest.watch(0).follow(func() bool { return true }) // one who watches already may ask again
			if n := h.Stats().Errors[wire.ErrorWatchers]; n != 1 {
				t.Errorf("%d counted, want 1", n)
			}
			log.has(t, `"reason":"too many watchers"`)
			end(h, first.guest)
			eventually(t, "there is a place", func() bool {
				third.watch(0)
				kind, _ := third.read()
				return kind == wire.TypePresence
			})
		})
	}
}

// TestEachWatchIsAnswered asks again the moment it has its answer, when the hub may not have noted yet
// that it has given one.
func TestEachWatchIsAnswered(t *testing.T) {
	h := start(t, hub.Config{})
	g := h.guest(t)
	for range 20 {
		g.watch(0).follow(func() bool { return true })
	}
}

// TestAWatcherThatNeverReads asks again and again who is there, and does not look
// at the answers. Answered one by one, they would be 8 MB.
func TestAWatcherThatNeverReads(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 4 << 10})
	for range 500 {
		h.silent(t)
	}
	eventually(t, "all connected", func() bool { return h.Stats().Clients == 500 })
	g := h.guest(t)
	g.small()
	others := h.bystand(t)
	g.send(bytes.Repeat(wire.AppendWatch(nil, wire.Watch{On: true}), 2000))
	eventually(t, "all asked", func() bool { return h.Stats().MessagesIn > 2000 })
	others.pass(10)
	if stats := h.Stats(); stats.QueuedBytes > 1<<20 || stats.BytesOut > 2<<20 {
		t.Errorf("%d bytes are queued, %d were sent", stats.QueuedBytes, stats.BytesOut)
	}
}

// TestAnswersDoNotStopTheHearing asks while nothing can be written before something
// is acknowledged: the hub must hear the acknowledgement behind the questions.
func TestAnswersDoNotStopTheHearing(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 4 << 10, Window: 2 << 20})
	sender, guest := h.guest(t), h.guest(t)
	guest.mute = true
	body := pattern(1<<20, 1)
	background(t, func() error {
		var all []byte
		for seq := uint64(1); seq <= 4; seq++ {
			all = wire.AppendSend(all, seq, 0, 0, []uint64{guest.id}, body)
		}
		_, err := sender.Write(all)
		return err
	})
	guest.delivered(sender.id, 1, body)
	guest.delivered(sender.id, 2, body) // the window is full
	const pings = 10
	for n := range uint64(pings) {
		guest.send(wire.AppendPing(nil, n))
		eventually(t, "heard", func() bool { return h.Stats().MessagesIn >= 2+2+n }) // HELLOs, SENDs, and the PINGs so far
	}
	guest.send(wire.AppendTaken(nil, guest.had))
	messages, pongs := uint64(2), 0
	for messages < 4 || pongs < pings {
		kind, payload := guest.read()
		switch kind {
		case wire.TypePong:
			pongs++
		case wire.TypeDeliver:
			messages++
			if d, err := wire.ParseDeliver(payload); err != nil || d.Seq != messages {
				t.Fatalf("message %d, want %d: %v", d.Seq, messages, err)
			}
			guest.send(wire.AppendTaken(nil, guest.had))
		default:
			t.Fatalf("a frame of type %#x", kind)
		}
	}
}

// TestNothingIsWaitedForWithoutAConnection has a client wait for the reports of what it sent
// itself, and go.
func TestNothingIsWaitedForWithoutAConnection(t *testing.T) {
	h := start(t, hub.Config{MaxReports: 1, ResumeWindow: time.Minute, ReportTimeout: time.Hour})
	g := h.guest(t)
	for range 3 {
		g.tell(nil, only(wire.LevelProcessed), 0, g.id)
	}
	g.delivered(g.id, 1, nil)
	g.reset()
	back := h.back(t, g)
	if !back.Resumed || back.Seq != 1 {
		t.Errorf("came back as %+v", back.Welcome)
	}
	back.tell(nil, only(wire.LevelProcessed), 0, g.id)
	back.tell(nil, only(wire.LevelProcessed), 0, g.id)
	if err := h.Shutdown(context.WithoutCancel(t.Context())); err != nil { // which waits for nobody's verdict
		t.Error(err)
	}
}

// TestRelaysOfVersion2WaitForNobody: a client that says HELLO and then sends as in version 1
// sends itself more than it may have unacknowledged.
func TestRelaysOfVersion2WaitForNobody(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 4 << 10})
	g := h.guest(t)
	body := pattern(1<<20, 1)
	const messages = 5
	background(t, func() error {
		var all []byte
		for range messages {
			all = wire.AppendRelay(all, []uint64{g.id}, body)
		}
		_, err := g.Write(all)
		return err
	})
	for range messages {
		g.delivered(g.id, 0, body)
	}
}

// TestHoardingReports has clients take reports and acknowledge hardly any of them, each just
// below its window. Together they would hold more than there is: while others wait for memory,
// what they do not take note of is given up.
func TestHoardingReports(t *testing.T) {
	const most, hoarders, messages = 5 << 20, 8, 25_000
	h := start(t, hub.Config{MaxQueuedBytes: most, StallTimeout: time.Second, Window: 2 << 20})
	others := h.bystand(t)
	over := make(chan struct{})
	for range hoarders {
		g := h.guest(t)
		background(t, func() error {
			var all []byte
			for seq := uint64(1); seq <= messages; seq++ {
				all = wire.AppendSend(all, seq, only(wire.LevelWritten), 0, nil, nil)
			}
			_, err := g.Write(all)
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for n := uint64(1); err == nil; n++ {
				select {
				case <-tick.C:
					_, err = g.Write(wire.AppendTaken(nil, n))
				case <-over:
					return nil
				}
			}
			return err
		})
		background(t, func() error {
			for had := 0; had < messages; {
				kind, _, err := g.next()
				if err != nil {
					return err
				}
				if kind == wire.TypeReport {
					had++
				}
			}
			return nil
		})
	}
	eventually(t, "all are reported", func() bool {
		others.pass(5)
		return h.Stats().MessagesOut >= hoarders*messages
	})
	close(over)
	others.pass(20)
}

// TestWhoeverKeepsMuchIsAsked has more sent to a client than its sender may have the hub hold. It
// says what it has received only when it is asked to.
func TestWhoeverKeepsMuchIsAsked(t *testing.T) {
	const messages = 64
	h := start(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: time.Hour})
	sender, guest := h.guest(t), h.guest(t)
	body := pattern(60_000, 1)
	background(t, func() error {
		for range messages {
			sender.tell(body, 0, 0, guest.id)
		}
		return nil
	})
	asked := 0
	for had := uint64(0); had < messages; {
		switch kind, _ := guest.frame(); kind {
		case wire.TypeDeliver:
			had++
		case wire.TypePing:
			asked++
			guest.send(wire.AppendTaken(nil, had))
		}
	}
	if asked < 3 {
		t.Errorf("asked %d times, want each time that the share of the sender is full", asked)
	}
}

// TestWhoWaitsForMemoryIsNotWaitedFor has two clients send much to each other at a hub that is short
// of memory. They acknowledge what they are asked about, and neither of them is heard while it waits for the
// memory that is kept for the other: so it is given up soon, and not after half a second each time.
func TestWhoWaitsForMemoryIsNotWaitedFor(t *testing.T) {
	const messages, longest = 800, 30 * time.Second // 96 times what one may have the hub hold
	h := start(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: time.Hour})
	guests := []*guest{h.guest(t), h.guest(t)}
	body := pattern(60_000, 1)
	begin := time.Now()
	parallel(t, len(guests), func(i int) error {
		g, other := guests[i], guests[1-i]
		background(t, func() error {
			for range messages {
				g.tell(body, 0, 0, other.id)
			}
			return nil
		})
		return g.answering(messages)
	})
	if took := time.Since(begin); took > longest {
		t.Errorf("took %v, at most %v is fine", took, longest)
	}
}

// answering takes so many messages, and says what it has received when it is asked. It reads on while
// that cannot be written.
func (g *guest) answering(messages uint64) error {
	var answers sync.WaitGroup
	defer answers.Wait()
	for had := uint64(0); had < messages; {
		kind, payload, err := g.next()
		switch {
		case err != nil:
			return err
		case kind == wire.TypeDeliver:
			had++
		case kind == wire.TypePing:
			n, _ := wire.ParseNumber(payload)
			answer := wire.AppendPong(wire.AppendTaken(nil, had), n)
			answers.Go(func() { _, _ = g.Write(answer) }) // ends when the hub has read what was sent before
		}
	}
	return nil
}

// TestAnswersAreNotPaced asks one who may say little for acknowledgements, all the time.
func TestAnswersAreNotPaced(t *testing.T) {
	const messages = 500
	h := start(t, hub.Config{MaxQueuedBytes: 5 << 20, Admit: func(a hub.Applicant) (*hub.Grant, error) {
		if a.Token == "quiet" {
			return &hub.Grant{MessageRate: 5}, nil
		}
		return &hub.Grant{}, nil
	}})
	sender, quiet := h.show(t, "sender"), h.show(t, "quiet")
	body := pattern(60_000, 1)
	background(t, func() error {
		for range messages {
			sender.tell(body, 0, 0, quiet.id)
		}
		return nil
	})
	if err := quiet.answering(messages); err != nil {
		t.Error(err)
	}
	if n := h.Stats().Paced; n > 0 {
		t.Errorf("slowed down %d times for what it was asked", n)
	}
}

// TestWhatHelpsNobodyIsKept for one who waits for memory that is held by what a slow receiver has yet to
// get: what others have sent to it is none of that, and it can resume.
func TestWhatHelpsNobodyIsKept(t *testing.T) {
	const messages = 200
	h := start(t, hub.Config{MaxQueuedBytes: 16 << 20, OutboxBytes: 8 << 20})
	busy, slow, other := h.guest(t), h.guest(t), h.guest(t)
	busy.mute = true
	seq := other.tell([]byte("hello"), 0, 0, busy.ID)
	busy.delivered(other.ID, seq, []byte("hello"))
	body := pattern(60_000, 1)
	sent := make(chan struct{})
	background(t, func() error {
		defer close(sent)
		for range messages {
			busy.tell(body, 0, 0, slow.ID)
		}
		return nil
	})
	const share = 14 << 20 / 8 // what busy may have the hub hold
	eventually(t, "busy waits", func() bool { return h.Stats().QueuedBytes > share-2*64<<10 })
	for seq := uint64(1); seq <= messages; seq++ {
		slow.delivered(busy.ID, seq, body)
	}
	<-sent
	old := *busy
	old.had = 0 // it has not come
	busy.reset()
	if back := h.back(t, &old); !back.Resumed {
		t.Errorf("came back as %+v", back.Welcome)
	}
}

// TestReportsToBeMadeAreBounded sends more messages that ask for a verdict than may
// wait for one.
func TestReportsToBeMadeAreBounded(t *testing.T) {
	const most, messages = 4, 10
	h := start(t, hub.Config{MaxReports: most})
	sender, guest := h.guest(t), h.guest(t)
	for range messages {
		sender.tell(nil, only(wire.LevelProcessed), 0, guest.id)
	}
	for seq := uint64(1); seq <= messages; seq++ {
		guest.delivered(sender.id, seq, nil)
		if seq == most {
			guest.catchUp() // would stumble over a fifth message
		}
		if seq >= most { // one verdict for each that may come
			guest.send(wire.AppendAcks(nil, []wire.Ack{{Sender: sender.id, Seq: seq - most + 1, Fate: wire.FateProcessed}}))
			sender.reported(seq-most+1, wire.FateProcessed)
		}
	}
}

// TestASenderBeyondItsCreditIsNotRead floods somebody who is away. What the hub
// takes is the credit, not what the sender likes; nobody else notices.
func TestASenderBeyondItsCreditIsNotRead(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 64 << 10, StallTimeout: time.Hour, ResumeWindow: time.Hour})
	others := h.bystand(t)
	sender, away := h.guest(t), h.guest(t)
	away.reset()
	h.detached(t, away)
	const messages = 400
	body := pattern(10_000, 1)
	background(t, func() error {
		for seq := uint64(1); seq <= messages; seq++ {
			if _, err := sender.Write(wire.AppendSend(nil, seq, 0, 0, []uint64{away.id}, body)); err != nil {
				return err
			}
		}
		return nil
	})
	eventually(t, "the credit is used up", func() bool { return h.Stats().QueuedBytes > int64(sender.Credit) })
	others.pass(20)
	others.end() // what they have sent is kept until they say that they have had it
	most := int64(64<<10 + sender.Credit + 512<<10)
	eventually(t, "no more is queued than that", func() bool { return h.Stats().QueuedBytes <= most })
	back := h.back(t, away)
	for seq := uint64(1); seq <= messages; seq++ {
		back.delivered(sender.id, seq, body)
	}
}

// TestPeer_AnsweredPingIsFollowedByTaken asks what was taken while a SEND waits for room: when it has some, the client is told, though it
// is far less than a quarter of the credit, and not more often than it has asked.
func TestPeer_AnsweredPingIsFollowedByTaken(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 4 << 10, ResumeWindow: time.Minute})
	sender, away := h.guest(t), h.guest(t)
	away.reset()
	h.detached(t, away)
	body := pattern(5000, 1)
	first := sender.tell(body, 0, 0, away.id)
	waits := sender.tell(body, 0, 0, away.id)
	sender.send(wire.AppendPing(nil, 5))
	sender.takens(first)
	if kind, _ := sender.frame(); kind != wire.TypePong {
		t.Fatalf("a frame of type %#x, want PONG", kind)
	}
	back := h.back(t, away)
	back.delivered(sender.id, first, body)
	back.delivered(sender.id, waits, body)
	sender.takens(waits)
	back.delivered(sender.id, sender.tell(body, 0, 0, back.id), body)
	if sender.answersWithin(100 * time.Millisecond) {
		t.Error("told of something else than it has asked for")
	}
}

// TestPeer_TellsOfAQuarterAsOldClientsCount sends a quarter of the credit as a client counts that
// knows no receiver_cost: it may wait to be told.
func TestPeer_TellsOfAQuarterAsOldClientsCount(t *testing.T) {
	h := start(t, hub.Config{Credit: 64 << 10})
	sender, receiver := h.guest(t), h.guest(t)
	to := slices.Repeat([]uint64{receiver.id}, 100)
	cost := wire.SendCost(len(to), 0, wire.DefaultReceiverCost)
	quarter := (sender.Credit/4 + cost - 1) / cost
	if newer := quarter * wire.SendCost(len(to), 0, sender.ReceiverCost); newer >= sender.Credit/4 {
		t.Fatalf("the hub counts %d bytes, which is a quarter as well", newer)
	}
	var last uint64
	for range quarter {
		last = sender.tell(nil, 0, 0, to...)
	}
	sender.takens(last)
}

// takens reads a TAKEN of just that.
func (g *guest) takens(upTo uint64) {
	g.t.Helper()
	kind, payload := g.frame()
	if n, err := wire.ParseNumber(payload); kind != wire.TypeTaken || n != upTo || err != nil {
		g.t.Fatalf("a frame of type %#x: %d, %v; want TAKEN %d", kind, n, err, upTo)
	}
}

// TestWhoSaysHelloAndVanishesCostsLittle has clients come, say HELLO and go, one
// after the other, all within the time in which each could come back.
func TestWhoSaysHelloAndVanishesCostsLittle(t *testing.T) {
	const visitors = 2000
	h := start(t, hub.Config{})
	others := h.bystand(t)
	before := allocatedNow()
	for range visitors {
		g := h.guest(t)
		g.reset()
	}
	others.pass(10)
	if each := (int64(allocatedNow()) - int64(before)) / visitors; each > 16<<10 {
		t.Errorf("%d bytes for each that may come back", each)
	}
}

// allocatedNow returns the bytes on the heap that are in use.
func allocatedNow() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// TestWhatTheHubSaysByItselfIsBounded floods strangers from a client to which
// nothing can be written: it has not said what it received.
func TestWhatTheHubSaysByItselfIsBounded(t *testing.T) {
	h := start(t, hub.Config{StallTimeout: time.Hour, Window: 2 << 20})
	g := h.guest(t)
	g.mute = true
	body := pattern(1<<20, 1)
	for range 2 {
		g.delivered(g.id, g.tell(body, 0, 0, g.id), body) // the window is full
	}
	g.tell(body, 0, 0, 999)
	g.send(wire.AppendIdentityRequest(nil))
	eventually(t, "heard", func() bool { return h.Stats().MessagesIn >= 5 })
	before := h.Stats().QueuedBytes
	for range 200 {
		g.tell(body[:1<<19], 0, 0, 999)
	}
	eventually(t, "all relayed", func() bool { return h.Stats().Relays >= 203 })
	eventually(t, "what is read is given back", func() bool { return h.Stats().QueuedBytes <= before+(16<<10) })
}

// TestTheLastAreWrittenUnheard has more queued than the window for one who leaves, or
// for whom the hub ends: nobody hears acknowledgements any more, and all is written.
func TestTheLastAreWrittenUnheard(t *testing.T) {
	t.Run("shutdown, with a sender that waits", func(t *testing.T) {
		h := start(t, hub.Config{OutboxBytes: 4 << 10, StallTimeout: time.Hour, Window: 2 << 20})
		sender, g := h.peer(t), h.guest(t)
		g.mute = true
		body := pattern(1<<20, 1)
		background(t, func() error {
			for range 5 { // two fill the window, one waits, one is parked, and one is not read
				sender.send(wire.AppendRelay(nil, []uint64{g.id}, body))
			}
			return nil
		})
		for range 2 {
			g.delivered(sender.id, 0, body)
		}
		eventually(t, "four have come in", func() bool { return h.client(t, sender.id).BytesIn > 4<<20 })
		background(t, func() error { return h.Shutdown(context.WithoutCancel(t.Context())) })
		for range 2 {
			g.delivered(sender.id, 0, body)
		}
		g.sentAway(wire.GoAwayShutdown)
	})
	for name, end := range map[string]func(*testHub, *guest){
		"bye": func(_ *testHub, g *guest) { g.send(wire.AppendBye(nil)) },
		"shutdown": func(h *testHub, _ *guest) {
			background(t, func() error { return h.Shutdown(context.WithoutCancel(t.Context())) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, hub.Config{StallTimeout: time.Hour})
			sender, g := h.guest(t), h.guest(t)
			g.mute = true
			body := pattern(1<<20, 1)
			for i := range uint64(3) {
				seq := sender.tell(body, 0, 0, g.id)
				if i < 2 {
					g.delivered(sender.id, seq, body)
				}
			}
			eventually(t, "all are queued", func() bool { return h.Stats().Relays == 3 })
			end(h, g)
			g.delivered(sender.id, 3, body)
		})
	}
}
