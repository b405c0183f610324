package hub_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// startTraced serves a hub that traces every message, and returns the channel of its traces.
func startTraced(t *testing.T, tr testTransport, config hub.Config) (*testHub, <-chan hub.Trace) {
	t.Helper()
	traces := make(chan hub.Trace, 1000)
	config.TraceSampleRate = 1
	config.OnTrace = func(trace hub.Trace) bool {
		select {
		case traces <- trace:
			return true
		default:
			return false
		}
	}
	return tr.start(t, config), traces
}

// checkTrace compares a trace with the message and with the fate for each receiver.
func checkTrace(t *testing.T, got, want hub.Trace, began time.Time) {
	t.Helper()
	if got.Version != want.Version || got.Sender != want.Sender || got.Seq != want.Seq || got.BodyLen != want.BodyLen || len(got.Receivers) != len(want.Receivers) {
		t.Fatalf("traced %+v, want %+v", got, want)
	}
	if got.ReadAt.Before(began) || got.ReadAt.After(time.Now()) {
		t.Errorf("read at %v, the test began at %v", got.ReadAt, began)
	}
	maxDecided := max(time.Since(began), 1) // a time of 0 means never, also in virtual time
	for i, r := range got.Receivers {
		w := want.Receivers[i]
		if r.ID != w.ID || r.Fate != w.Fate {
			t.Errorf("receiver %d: %+v, want %+v", i, r, w)
		}
		if (r.Queued != 0) != (w.Fate <= wire.FateWritten) || r.Decided <= 0 || r.Queued > r.Decided || r.Decided > maxDecided {
			t.Errorf("receiver %d: times of %+v", i, r)
		}
	}
}

// TestTrace_EveryMessage_ReportsFates sends in every possible way to clients of both versions
// and to an unknown one. Every message is traced, also those that are read together.
func TestTrace_EveryMessage_ReportsFates(t *testing.T) {
	for _, version := range []int{1, 2} {
		for _, size := range []int{0, 100, 5000, 100_000} {
			for _, level := range []wire.Level{wire.LevelNone, wire.LevelReceived} {
				if version == 1 && level != wire.LevelNone {
					continue
				}
				t.Run(fmt.Sprintf("%d bytes in version %d, %v", size, version, level), func(t *testing.T) {
					h, traces := startTraced(t, overTCP, hub.Config{})
					v1Sender, v2Sender, v1, v2 := h.connectV1(t), h.connectV2(t), h.connectV1(t), h.connectV2(t)
					began := time.Now()
					const messages = 20
					body, to := pattern(size, 1), []uint64{v1.id, 999_999, v2.id}
					var block []byte
					from := v1Sender.id
					for seq := range uint64(messages) {
						if version == 1 {
							block = wire.AppendRelay(block, to, body)
						} else {
							block, from = wire.AppendSend(block, seq+1, levelOptions(level), 0, to, body), v2Sender.id
						}
					}
					background(t, func() error { // the block may be more than the sockets hold
						c := v1Sender
						if version == 2 {
							c = v2Sender.clientV1
						}
						_, err := c.Write(block)
						return err
					})
					for n := range uint64(messages) {
						seq := uint64(0)
						if version == 2 {
							seq = n + 1
						}
						v1.expectRelay(body)
						v2.expectDeliver(from, seq, body)
					}
					seen := make(map[uint64]bool)
					for range messages {
						got := <-traces
						want := hub.Trace{Version: version, Sender: from, BodyLen: size, Receivers: []hub.ReceiverTrace{
							{ID: v1.id, Fate: wire.FateWritten}, {ID: 999_999, Fate: wire.FateUnknown}, {ID: v2.id, Fate: wire.FateWritten},
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

// TestTrace_Undelivered_ReportsFate sends to a forbidden receiver, and to one that
// disconnects without having read.
func TestTrace_Undelivered_ReportsFate(t *testing.T) {
	forbidden := uint64(77)
	h, traces := startTraced(t, overTCP, hub.Config{StallTimeout: testTimeout, Authenticate: func(hub.AuthRequest) (*hub.Permissions, error) {
		return &hub.Permissions{CanSend: func(id uint64) bool { return id != forbidden }}, nil
	}})
	began := time.Now()
	sender, nonReader := h.connectV2(t), h.connectV1(t).shrinkReadBuffer()
	seq := sender.sendMessage(nil, 0, 0, forbidden)
	checkTrace(t, <-traces, hub.Trace{Version: 2, Sender: sender.id, Seq: seq, Receivers: []hub.ReceiverTrace{{ID: forbidden, Fate: wire.FateRefused}}}, began)

	v1 := h.connectV1(t)
	v1.fillQueue(h, nonReader.id)
	nonReader.reset()
	for gone := false; !gone; {
		trace := <-traces
		r := trace.Receivers[0]
		gone = r.Fate == wire.FateGone
		if !gone && r.Fate != wire.FateWritten {
			t.Errorf("traced %+v", trace)
		}
	}
}

// TestTrace_SampleRate_IsKept counts the traces, including those that OnTrace does not take.
func TestTrace_SampleRate_IsKept(t *testing.T) {
	const messages, oneIn = 100_000, 50
	traces := make(chan hub.Trace, messages)
	h := start(t, hub.Config{TraceSampleRate: oneIn, OnTrace: func(trace hub.Trace) bool {
		traces <- trace
		return len(traces)%2 == 0
	}})
	sender, readers := h.connectV1(t), h.connectReaders(t, 1)
	block := make([]byte, 0, 100*100)
	for range 100 {
		block = wire.AppendRelay(block, readers.ids, nil)
	}
	for range messages / 100 {
		sender.send(block)
	}
	readers.waitRead(t, 0, messages*wire.RelayDeliveryLen(0))
	const want = messages / oneIn
	// A read by the receiver can come before the traces of the write, the count of the write cannot.
	eventually(t, "all messages counted as written", func() bool { return h.Stats().Delivered == messages })
	if n := h.Stats().TracesDropped; n < uint64(len(traces)/2) {
		t.Errorf("%d of %d traces are counted as dropped, want half of them", n, len(traces))
	}
	if n := len(traces); n < want*8/10 || n > want*12/10 { // nine standard deviations
		t.Errorf("%d of %d messages were traced, want about %d", n, messages, want)
	}
}

// TestTrace_PendingTraces_AreBounded sends to receivers that read nothing: no more messages
// are traced than there is room for, and their traces are emitted after the report timeout,
// which lets others be traced.
func TestTrace_PendingTraces_AreBounded(t *testing.T) {
	const maxPending = 32 << 10 / wire.MaxReceivers
	synctest.Test(t, func(t *testing.T) {
		traces := make(chan hub.Trace, 2*maxPending)
		h := startInMemory(t, hub.Config{TraceSampleRate: 1, OnTrace: func(trace hub.Trace) bool { traces <- trace; return true }})
		var to []uint64
		for range wire.MaxReceivers {
			nonReader := h.connect(t).withoutReadBuffer()
			nonReader.send(wire.AppendIdentityRequest(nil))
			to = append(to, nonReader.readIdentity())
		}
		sender := h.connect(t)
		for range maxPending + 2 {
			sender.relay(nil, to...)
		}
		sender.fence()
		if n := h.Stats().TracesDropped; n != 2 || len(traces) != 0 {
			t.Errorf("%d of %d were not traced, %d emitted, want 2 and none", n, maxPending+2, len(traces))
		}
		for _, messages := range []int{maxPending, 1} {
			<-time.After(hub.DefaultReportTimeout)
			synctest.Wait()
			if len(traces) != messages {
				t.Fatalf("%d emitted, want %d", len(traces), messages)
			}
			for range messages {
				for _, r := range (<-traces).Receivers {
					if r.Fate != wire.FateQueued || r.Queued == 0 || r.Decided != 0 {
						t.Errorf("receiver that reads nothing: %+v", r)
					}
				}
			}
			sender.relay(nil, to...)
			sender.fence()
		}
	})
}
