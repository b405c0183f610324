package relay

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// record returns a traceRecorder of a batch to receivers with the ids 0, 1 …, or nil.
func (tr *testRelay) record(receivers int, frames ...[]byte) *traceRecorder {
	ids := make([]uint64, receivers)
	for i := range ids {
		ids[i] = uint64(i)
	}
	batch := tr.newBatch(frames...)
	defer batch.Buffer.Release()
	return tr.Relay.traces.newRecorder(originID, time.Now(), ids, &batch)
}

// wantTraces checks the traces since the last call.
func (tr *testRelay) wantTraces(t *testing.T, want ...Trace) {
	t.Helper()
	if got := tr.takeTraces(); !slices.EqualFunc(got, want, func(a, b Trace) bool { return reflect.DeepEqual(a, b) }) {
		t.Errorf("traced %+v, want %+v", got, want)
	}
}

// TestTraces_Message_HasAllReceivers traces messages of both versions, with and without a Tracker,
// to receivers of every kind. One of them accepts data after a second.
func TestTraces_Message_HasAllReceivers(t *testing.T) {
	for name, tt := range map[string]struct {
		opts Options
		want Trace
	}{
		"version 1":          {Options{}, Trace{Version: 1}},
		"version 2":          {levelOptions(wire.LevelNone), Trace{Version: 2, Seq: 1}},
		"version 2, tracked": {levelOptions(wire.LevelReceived), Trace{Version: 2, Seq: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
				tr.traceAll(1)
				tr.origin.canSend = func(to uint64) bool { return to != 2 }
				open, slow, small := newOutboxDest(t, 2, 1<<20), newOutboxDest(t, 1, 1<<20), newOutboxDest(t, 1, 1<<20)
				slow.conn.block()
				small.SetMaxFrame(10)
				tr.dests = map[uint64]Destination{2: open, 3: open, 4: slow, 5: small}
				body := make([]byte, 300)
				frame := wire.AppendRelayDelivery(nil, body)
				if tt.opts.IsSend {
					frame = deliver(1, body)
				}
				readAt := time.Now()
				tr.send(tt.opts, []uint64{1, 2, 3, 4, 5}, frame)
				sleep(time.Second)
				tr.wantTraces(t)
				slow.conn.resume()
				synctest.Wait()
				tt.want.Sender, tt.want.BodyLen, tt.want.ReadAt = originID, len(body), readAt
				tt.want.Receivers = []ReceiverTrace{
					{ID: 1, Fate: wire.FateUnknown, Decided: 1}, {ID: 2, Fate: wire.FateRefused, Decided: 1},
					{ID: 3, Fate: wire.FateWritten, Queued: 1, Decided: 1},
					{ID: 4, Fate: wire.FateWritten, Queued: 1, Decided: time.Second},
					{ID: 5, Fate: wire.FateTooLarge, Decided: 1},
				}
				tr.wantTraces(t, tt.want)
				open.Acknowledge(1)
				sleep(testReportTimeout)
				tr.wantTraces(t)
			})
		})
	}
}

// TestTraces_Event_DecidesFate applies every event after a second, before and after the outcome of
// the offer.
func TestTraces_Event_DecidesFate(t *testing.T) {
	for event, want := range map[outbox.Event]ReceiverTrace{
		outbox.EventQueued:      {Fate: wire.FateQueued, Queued: time.Second},
		outbox.EventWritten:     {Fate: wire.FateWritten, Queued: time.Second, Decided: time.Second},
		outbox.EventAcked:       {Fate: wire.FatePending},
		outbox.EventExpired:     {Fate: wire.FateExpired, Decided: time.Second},
		outbox.EventDropped:     {Fate: wire.FateFull, Decided: time.Second},
		outbox.EventLost:        {Fate: wire.FateGone, Decided: time.Second},
		outbox.EventUnacked:     {Fate: wire.FateGone, Decided: time.Second},
		outbox.EventUnreachable: {Fate: wire.FateUnreachable, Decided: time.Second},
		outbox.EventTooLarge:    {Fate: wire.FateTooLarge, Decided: time.Second},
	} {
		for _, queued := range []bool{false, true} {
			t.Run(fmt.Sprintf("event %d, queued %t", event, queued), func(t *testing.T) {
				inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
					tr.traceAll(1)
					begin := time.Now()
					recorder, want := tr.record(1, numbered(1)...), want
					if queued {
						recorder.onEnqueue(&outbox.Batch{Frames: 1}, outbox.Queued)
						want.Queued = 1
						want.Fate = max(want.Fate, wire.FateQueued)
					}
					sleep(time.Second)
					recorder.handleEvent(0, event, 0, 1)
					if open := len(tr.takeTraces()) == 0; open != (want.Decided == 0) {
						t.Errorf("the trace is open: %t", open)
					}
					recorder.onEnqueue(&outbox.Batch{Frames: 1}, outbox.Blocked)
					sleep(time.Until(begin.Add(testReportTimeout)))
					if got := recorder.traces[0].Receivers[0]; got != want {
						t.Errorf("traced %+v, want %+v", got, want)
					}
				})
			})
		}
	}
}

// TestTraces_Outcome_DecidesFate applies every outcome of Offer.
func TestTraces_Outcome_DecidesFate(t *testing.T) {
	for outcome, want := range map[outbox.Outcome]wire.Fate{
		outbox.Queued: wire.FateQueued, outbox.Blocked: wire.FatePending, outbox.Closed: wire.FateGone,
		outbox.Full: wire.FateFull, outbox.TooLarge: wire.FatePending, outbox.AlreadyExpired: wire.FateExpired,
	} {
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			tr.traceAll(1)
			recorder := tr.record(1, numbered(1)...)
			recorder.onEnqueue(&outbox.Batch{Frames: 1}, outcome)
			if open := len(tr.takeTraces()) == 0; open != (want <= wire.FateQueued) {
				t.Errorf("outcome %d: the trace is open: %t", outcome, open)
			}
			sleep(testReportTimeout)
			if got := recorder.traces[0].Receivers[0].Fate; got != want {
				t.Errorf("outcome %d: traced %v, want %v", outcome, got, want)
			}
		})
	}
}

// TestTraces_Sampled_EveryStep samples batches at several rates. The sampled messages are at equal
// distances. Each is emitted when events of ranges of frames have decided it for both receivers.
func TestTraces_Sampled_EveryStep(t *testing.T) {
	const frames = 20
	for rate := 1; rate <= frames+5; rate++ {
		starts := map[int]bool{}
		for range 20 * rate {
			inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
				tr.traceAll(rate)
				recorder := tr.record(2, numbered(frames)...)
				if recorder == nil {
					return
				}
				starts[recorder.first] = true
				var want, got []uint64
				for at := recorder.first; at < frames; at += rate {
					want = append(want, uint64(at+1))
				}
				recorder.handleEvent(0, outbox.EventWritten, 0, frames)
				for first := frames - 1; first >= 0; first -= 3 {
					ranged := min(3, frames-first)
					recorder.handleEvent(1, outbox.EventWritten, first, ranged)
					for _, trace := range tr.takeTraces() {
						if got = append(got, trace.Seq); trace.Seq <= uint64(first) || trace.Seq > uint64(first+ranged) {
							t.Errorf("the fate of frame %d is decided with %d frames from %d", trace.Seq-1, ranged, first)
						}
					}
				}
				recorder.handleEvent(1, outbox.EventWritten, 0, 2)
				for _, trace := range tr.takeTraces() {
					got = append(got, trace.Seq)
				}
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("one of %d messages, from %d on: traced %v, want %v", rate, recorder.first, got, want)
				}
			})
		}
		if n := len(starts); n > min(rate, frames) || rate > 3 && n < min(rate, frames)/2 {
			t.Errorf("one of %d messages: sampling began at %d frames of %d", rate, n, frames)
		}
	}
}

// TestTraces_SampleRate_IsKept samples batches of several sizes, many times.
func TestTraces_SampleRate_IsKept(t *testing.T) {
	for _, frames := range []int{1, 3, 200} {
		const messages, rate = 600_000, 50
		tr := newTestRelay(t, nil)
		tr.traceAll(rate)
		batch := tr.newBatch(slices.Repeat([][]byte{deliver(1, nil)}, frames)...)
		sampled := 0
		for range messages / frames {
			if recorder := tr.Relay.traces.newRecorder(originID, time.Now(), []uint64{1}, &batch); recorder != nil {
				sampled += len(recorder.traces)
				recorder.record(0, wire.FateWritten, 0, frames)
			}
		}
		batch.Buffer.Release()
		const want = messages / rate
		if deviation := math.Abs(float64(sampled - want)); deviation > 9*math.Sqrt(want) { // standard deviations
			t.Errorf("%d of %d messages in batches of %d were traced, want about %d", sampled, messages, frames, want)
		}
		if n := len(tr.takeTraces()); n != sampled {
			t.Errorf("%d of %d traces were emitted", n, sampled)
		}
	}
}

// TestTraces_OpenReceivers_AreBounded traces messages to the maximum number of receivers: all
// further ones are counted as dropped, until some traces are emitted.
func TestTraces_OpenReceivers_AreBounded(t *testing.T) {
	const maxOpen = maxSampledReceivers / wire.MaxReceivers
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		tr.traceAll(1)
		var recorders []*traceRecorder
		for range maxOpen/4 + 2 {
			recorders = append(recorders, tr.record(wire.MaxReceivers, numbered(4)...))
		}
		const dropped = (maxOpen/4+2)*4 - maxOpen
		if last := len(recorders) - 1; tr.TracesDropped() != dropped || recorders[last] != nil || len(recorders[0].traces) != 4 {
			t.Errorf("%d messages were not traced, want %d", tr.TracesDropped(), dropped)
		}
		for receiver := range wire.MaxReceivers {
			recorders[0].record(receiver, wire.FateWritten, 1, 2)
		}
		if n := len(tr.takeTraces()); n != 2 {
			t.Errorf("%d traces are emitted, want 2", n)
		}
		if recorder := tr.record(wire.MaxReceivers, numbered(4)...); recorder == nil || len(recorder.traces) != 2 || tr.TracesDropped() != dropped+2 {
			t.Errorf("traced %+v in the room of 2 messages, and dropped %d", recorder, tr.TracesDropped())
		}
		sleep(testReportTimeout)
		if n := len(tr.takeTraces()); n != maxOpen {
			t.Errorf("%d traces are emitted at the timeout, want %d", n, maxOpen)
		}
		if n := tr.Relay.traces.receivers.Load(); n != 0 {
			t.Errorf("%d receivers are counted without an open trace", n)
		}
	})
}

// TestTraces_Timeout_EmitsAsTheyStand lets the timeout end while some messages of a batch are
// undecided. They are emitted once: later events change nothing.
func TestTraces_Timeout_EmitsAsTheyStand(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		tr.traceAll(1)
		recorder := tr.record(2, numbered(3)...)
		recorder.record(0, wire.FateWritten, 0, 2)
		recorder.record(1, wire.FateQueued, 0, 2)
		recorder.record(1, wire.FateGone, 0, 1)
		if got := tr.takeTraces(); len(got) != 1 || got[0].Seq != 1 {
			t.Errorf("traced %+v, want the first message", got)
		}
		sleep(testReportTimeout - 1)
		if got := tr.takeTraces(); len(got) != 0 {
			t.Errorf("traced %+v before the timeout", got)
		}
		sleep(1)
		want := map[uint64][]wire.Fate{2: {wire.FateWritten, wire.FateQueued}, 3: {wire.FatePending, wire.FatePending}}
		traces := tr.takeTraces()
		for _, trace := range traces {
			for i, r := range trace.Receivers {
				if r.Fate != want[trace.Seq][i] || (r.Queued == 0) != (r.Fate == wire.FatePending) || (r.Decided == 0) != (r.Fate < wire.FateWritten) {
					t.Errorf("message %d: traced %+v, want %v", trace.Seq, r, want[trace.Seq][i])
				}
			}
		}
		for receiver := range 2 {
			recorder.record(receiver, wire.FateGone, 0, 3)
		}
		if again := tr.takeTraces(); len(traces) != 2 || len(again) != 0 || traces[0].Receivers[1].Fate == wire.FateGone {
			t.Errorf("traced %d messages at the timeout and %d later, want 2 that do not change", len(traces), len(again))
		}
	})
}

// TestTraces_OnTraceFalse_CountsDropped lets OnTrace drop every second trace.
func TestTraces_OnTraceFalse_CountsDropped(t *testing.T) {
	calls := 0
	tr := newTestRelay(t, func(c *Config) {
		c.Traces.OnTrace = func(Trace) bool { calls++; return calls%2 == 0 }
	})
	tr.record(1, numbered(5)...).record(0, wire.FateWritten, 0, 5)
	if calls != 5 || tr.TracesDropped() != 3 {
		t.Errorf("%d traces of which %d are dropped, want 5 and 3", calls, tr.TracesDropped())
	}
}

// TestTraces_Concurrent_EmitsOnce decides receivers in several goroutines while the timeout ends.
func TestTraces_Concurrent_EmitsOnce(t *testing.T) {
	const frames, receivers = 16, 8
	for round := range 100 {
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			tr.traceAll(1)
			recorder := tr.record(receivers, numbered(frames)...)
			var wg sync.WaitGroup
			for i := range receivers {
				wg.Go(func() {
					if i == round%(2*receivers) {
						<-time.After(testReportTimeout)
					}
					for j := range frames {
						recorder.onEnqueue(&outbox.Batch{Receiver: i, First: (j*5 + i) % frames, Frames: 1}, outbox.Queued)
						recorder.handleEvent(i, outbox.EventWritten, (j*5+i)%frames, 1)
					}
				})
			}
			wg.Wait()
			synctest.Wait() // the timer can emit traces as well
			seen := map[uint64]bool{}
			for _, trace := range tr.takeTraces() {
				if seen[trace.Seq] {
					t.Errorf("message %d is emitted twice", trace.Seq)
				}
				seen[trace.Seq] = true
			}
			if len(seen) != frames || tr.Relay.traces.receivers.Load() != 0 {
				t.Errorf("%d traces are emitted, want %d", len(seen), frames)
			}
		})
	}
}

// TestTraces_newTrace_Bodies checks the length of the body in either version.
func TestTraces_newTrace_Bodies(t *testing.T) {
	for _, size := range []int{0, 1, 5000} {
		body := bytes.Repeat([]byte{1}, size)
		for version, frame := range map[int][]byte{1: wire.AppendRelayDelivery(nil, body), 2: deliver(9, body)} {
			got := newTrace(originID, time.Time{}, nil, frame)
			if got.Version != version || got.BodyLen != size || got.Sender != originID || got.Seq != uint64(9*(version-1)) {
				t.Errorf("version %d with %d bytes: traced %+v", version, size, got)
			}
		}
	}
}
