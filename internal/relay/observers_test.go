package relay

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// recordedEvents is an outbox.EventHandler that records its calls.
type recordedEvents struct{ events []recordedEvent }

type recordedEvent struct {
	receiver      int
	event         outbox.Event
	first, frames int
}

func (r *recordedEvents) HandleEvent(receiver int, event outbox.Event, first, frames int) {
	r.events = append(r.events, recordedEvent{receiver, event, first, frames})
}

// TestLatencySample_Rate draws samples many times. Without a function to observe them, none is
// drawn.
func TestLatencySample_Rate(t *testing.T) {
	const reads = 1_000_000
	sampled := 0
	for range reads {
		if newLatencySample(nil) != nil {
			t.Fatal("a sample without a function")
		}
		if newLatencySample(func(time.Duration) {}) != nil {
			sampled++
		}
	}
	const want = reads / latencySampleRate
	if deviation := math.Abs(float64(sampled - want)); deviation > 9*math.Sqrt(want) { // standard deviations
		t.Errorf("%d of %d reads are sampled, want about %d", sampled, reads, want)
	}
}

// TestObservers_Chain_PassesEventsOn chains every combination of observers. Without any, there is
// nothing to chain, and untracked messages need no handler.
func TestObservers_Chain_PassesEventsOn(t *testing.T) {
	var none observers
	next := new(recordedEvents)
	if none.chain(nil) != nil || none.chain(next) != outbox.EventHandler(next) {
		t.Error("without observers, the chain is not the next handler")
	}
	for combination := 1; combination < 8; combination++ {
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			tr.traceAll(1)
			var obs observers
			var next recordedEvents
			var handler outbox.EventHandler
			var latencies []time.Duration
			timed, traced, tracked := combination&1 != 0, combination&2 != 0, combination&4 != 0
			if timed {
				obs.latency = &latencySample{time.Now(), func(d time.Duration) { latencies = append(latencies, d) }}
			}
			if traced {
				obs.traces = tr.record(3, numbered(4)...)
			}
			if tracked {
				handler = &next
			}
			sleep(time.Second)
			if handler = obs.chain(handler); handler == nil {
				t.Fatal("no handler")
			}
			for event := outbox.EventQueued; event <= outbox.EventTooLarge; event++ {
				handler.HandleEvent(2, event, 1, 3)
			}
			if timed != slices.Equal(latencies, []time.Duration{time.Second}) {
				t.Errorf("timed: %t, latencies %v", timed, latencies)
			}
			if traced && (obs.traces.traces[3].Receivers[2].Fate != wire.FateWritten || obs.traces.traces[0].Receivers[2].Fate != wire.FatePending) {
				t.Errorf("traced %+v", obs.traces.traces)
			}
			if tracked && (len(next.events) != int(outbox.EventTooLarge)+1 || next.events[1] != recordedEvent{2, outbox.EventWritten, 1, 3}) {
				t.Errorf("the next handler gets %v", next.events)
			}
			sleep(testReportTimeout)
		})
	}
}

// TestObservers_Latency_FromRead sends with and without a Tracker, until the messages of a Sender
// are sampled: each delivery is observed once, with the time since they were read.
func TestObservers_Latency_FromRead(t *testing.T) {
	for _, level := range []wire.Level{wire.LevelNone, wire.LevelWritten} {
		var latencies []time.Duration
		config := func(c *Config) { c.OnLatency = func(d time.Duration) { latencies = append(latencies, d) } }
		inVirtualTime(t, config, func(t *testing.T, tr *testRelay) {
			fast, slow := newOutboxDest(t, 2, 1<<20), newOutboxDest(t, 1, 1<<20)
			slow.conn.block()
			tr.dests = map[uint64]Destination{1: fast, 2: slow}
			var s Sender
			for s.latency == nil {
				s.Reset()
				s.Begin(tr.Relay, tr.account)
			}
			sleep(time.Second)
			tr.sendBy(&s, levelOptions(level), []uint64{1, 2, 3}, numbered(3)...)
			s.Reset()
			sleep(time.Second)
			slow.conn.resume()
			synctest.Wait()
			if want := []time.Duration{time.Second, 2 * time.Second}; !slices.Equal(latencies, want) {
				t.Errorf("level %d: latencies %v, want %v", level, latencies, want)
			}
		})
	}
}
