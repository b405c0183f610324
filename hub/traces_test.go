package hub_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// traced serves a hub that traces every message, and returns what it tells.
func traced(t *testing.T, config hub.Config) (*testHub, <-chan hub.Trace) {
	t.Helper()
	told := make(chan hub.Trace, 1000)
	config.TraceOneIn = 1
	config.Trace = func(tr hub.Trace) bool {
		select {
		case told <- tr:
			return true
		default:
			return false
		}
	}
	return start(t, config), told
}

// checkTrace holds a trace to what the message was, and to the fate for each receiver.
func checkTrace(t *testing.T, got, want hub.Trace, began time.Time) {
	t.Helper()
	if got.Version != want.Version || got.Sender != want.Sender || got.Seq != want.Seq || got.Body != want.Body || len(got.Receivers) != len(want.Receivers) {
		t.Fatalf("traced %+v, want %+v", got, want)
	}
	if got.Read.Before(began) || got.Read.After(time.Now()) {
		t.Errorf("read at %v, the test began at %v", got.Read, began)
	}
	for i, r := range got.Receivers {
		w := want.Receivers[i]
		if r.ID != w.ID || r.Fate != w.Fate {
			t.Errorf("receiver %d: %+v, want %+v", i, r, w)
		}
		if (r.Queued != 0) != (w.Fate <= wire.FateWritten) || r.Decided <= 0 || r.Queued > r.Decided || r.Decided > time.Since(began) {
			t.Errorf("receiver %d: times of %+v", i, r)
		}
	}
}

// TestMessagesAreTraced sends in every way there is to clients of both versions and to one that
// is unknown. Every message is traced, those that come together with others too.
func TestMessagesAreTraced(t *testing.T) {
	for _, version := range []int{1, 2} {
		for _, size := range []int{0, 100, 5000, 100_000} {
			for _, level := range []wire.Level{wire.LevelNone, wire.LevelReceived} {
				if version == 1 && level != wire.LevelNone {
					continue
				}
				t.Run(fmt.Sprintf("%d bytes in version %d, %v", size, version, level), func(t *testing.T) {
					h, told := traced(t, hub.Config{})
					classic, sender, older, newer := h.peer(t), h.guest(t), h.peer(t), h.guest(t)
					began := time.Now()
					const messages = 20
					body, to := pattern(size, 1), []uint64{older.id, 999_999, newer.id}
					var block []byte
					from := classic.id
					for seq := range uint64(messages) {
						if version == 1 {
							block = wire.AppendRelay(block, to, body)
						} else {
							block, from = wire.AppendSend(block, seq+1, only(level), 0, to, body), sender.id
						}
					}
					background(t, func() error { // what it sends may be more than the sockets hold
						p := classic
						if version == 2 {
							p = sender.peer
						}
						_, err := p.Write(block)
						return err
					})
					for n := range uint64(messages) {
						seq := uint64(0)
						if version == 2 {
							seq = n + 1
						}
						older.hears(body)
						newer.delivered(from, seq, body)
					}
					seen := make(map[uint64]bool)
					for range messages {
						got := <-told
						want := hub.Trace{Version: version, Sender: from, Body: size, Receivers: []hub.Traced{
							{ID: older.id, Fate: wire.FateWritten}, {ID: 999_999, Fate: wire.FateUnknown}, {ID: newer.id, Fate: wire.FateWritten},
						}}
						if version == 2 {
							want.Seq = got.Seq
							seen[got.Seq] = true
						}
						checkTrace(t, got, want, began)
					}
					if version == 2 && len(seen) != messages {
						t.Errorf("%d of %d messages were traced", len(seen), messages)
					}
				})
			}
		}
	}
}

// TestTracesOfWhatIsNotDelivered sends to a client that may not be sent to, and to one that leaves
// without having read.
func TestTracesOfWhatIsNotDelivered(t *testing.T) {
	forbidden := uint64(77)
	h, told := traced(t, hub.Config{StallTimeout: patience, Admit: func(hub.Applicant) (*hub.Grant, error) {
		return &hub.Grant{May: func(id uint64) bool { return id != forbidden }}, nil
	}})
	began := time.Now()
	sender, deaf := h.guest(t), h.peer(t).small()
	seq := sender.tell(nil, 0, 0, forbidden)
	checkTrace(t, <-told, hub.Trace{Version: 2, Sender: sender.id, Seq: seq, Receivers: []hub.Traced{{ID: forbidden, Fate: wire.FateRefused}}}, began)

	classic := h.peer(t)
	classic.fill(h, deaf.id)
	deaf.reset()
	for gone := false; !gone; {
		tr := <-told
		r := tr.Receivers[0]
		gone = r.Fate == wire.FateGone
		if !gone && r.Fate != wire.FateWritten {
			t.Errorf("traced %+v", tr)
		}
	}
}

// TestOneMessageInSoManyIsTraced counts them, and those that nobody takes.
func TestOneMessageInSoManyIsTraced(t *testing.T) {
	const messages, oneIn = 100_000, 50
	told := make(chan hub.Trace, messages)
	h := start(t, hub.Config{TraceOneIn: oneIn, Trace: func(tr hub.Trace) bool {
		told <- tr
		return len(told)%2 == 0
	}})
	sender, audience := h.peer(t), h.listen(t, 1)
	block := make([]byte, 0, 100*100)
	for range 100 {
		block = wire.AppendRelay(block, audience.ids, nil)
	}
	for range messages / 100 {
		sender.send(block)
	}
	audience.heard(t, 0, messages*wire.DeliveryLen(0))
	const want = messages / oneIn
	eventually(t, "all that were drawn are told", func() bool { return h.Stats().Untraced >= uint64(len(told)/2) })
	if n := len(told); n < want*8/10 || n > want*12/10 { // nine standard deviations
		t.Errorf("%d of %d messages were traced, want about %d", n, messages, want)
	}
}

// TestSoManyAreTracedAtOnce has receivers that read nothing: no more messages are traced than
// there is room for, and what is known of those is told in time, so that others can be.
func TestSoManyAreTracedAtOnce(t *testing.T) {
	const room = 32 << 10 / wire.MaxReceivers
	synctest.Test(t, func(t *testing.T) {
		told := make(chan hub.Trace, 2*room)
		ln := newPipes()
		h := startOn(t, hub.Config{TraceOneIn: 1, Trace: func(tr hub.Trace) bool { told <- tr; return true }}, ln)
		var to []uint64
		for range wire.MaxReceivers {
			deaf := virtual(t, ln)
			deaf.send(wire.AppendIdentityRequest(nil))
			to = append(to, deaf.identity())
		}
		sender := virtual(t, ln)
		for range room + 2 {
			sender.relay(nil, to...)
		}
		sender.fence()
		if n := h.Stats().Untraced; n != 2 || len(told) != 0 {
			t.Errorf("%d of %d were not traced, %d are told, want 2 and none", n, room+2, len(told))
		}
		for _, messages := range []int{room, 1} {
			<-time.After(hub.DefaultReportTimeout)
			synctest.Wait()
			if len(told) != messages {
				t.Fatalf("%d are told, want %d", len(told), messages)
			}
			for range messages {
				for _, r := range (<-told).Receivers {
					if r.Fate != wire.FateQueued || r.Queued == 0 || r.Decided != 0 {
						t.Errorf("of one who reads nothing: %+v", r)
					}
				}
			}
			sender.relay(nil, to...)
			sender.fence()
		}
	})
}
