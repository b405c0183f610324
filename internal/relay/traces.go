package relay

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// maxSampledReceivers is the maximum number of receivers, of all messages together, that are
// traced at once: 1 MiB of memory, or 128 messages to 255 receivers.
const maxSampledReceivers = 32 << 10

// Trace says what the relay did with one message: see TraceConfig.OnTrace.
type Trace struct {
	Version   int             // of the protocol that its sender speaks
	Sender    uint64          // id
	Seq       uint64          // given by the sender; 0 in version 1, which has none
	BodyLen   int             // in bytes
	ReadAt    time.Time       // when it had been read
	Receivers []ReceiverTrace // in the order in which the sender named them
}

// ReceiverTrace is the delivery of a message to one receiver. Times count from Trace.ReadAt.
type ReceiverTrace struct {
	ID     uint64
	Fate   wire.Fate     // written, or why not; pending or queued: undecided at TraceConfig.Timeout
	Queued time.Duration // when it was in the receiver's queue, about; 0: never
	// when the receiver's socket took it, or it was clear that it will not; 0: never
	Decided time.Duration
}

// TraceConfig holds the settings of traces. OnTrace and SampleRate are required for traces.
type TraceConfig struct {
	// OnTrace receives the traces of sampled messages; nil: none is sampled. It returns false if it
	// drops the trace. It can be called concurrently and must not block.
	OnTrace func(Trace) bool

	SampleRate int             // average number of messages for each that is traced; at least 1
	Timeout    time.Duration   // maximum time that a trace stays open
	Timers     *sync.WaitGroup // counts the timers that run
}

// tracer samples messages and traces them.
type tracer struct {
	config    TraceConfig
	receivers atomic.Int64  // receivers of the messages that are being traced
	dropped   atomic.Uint64 // sampled messages that were not traced
}

// traceRecorder records the traces of the sampled messages of a batch.
type traceRecorder struct {
	// Static after tracer.newRecorder.
	tracer      *tracer
	first, step int // the sampled messages are the frames first, first+step, …

	// mu guards the fields below.
	mu         sync.Mutex
	timer      *time.Timer // bounds how long the traces stay open
	traces     []Trace
	undecided  []int // by trace: how many receivers are undecided; 0: the trace was emitted
	unreported int   // traces that were not emitted
}

// newRecorder samples the messages of a batch that was read from sender at readAt. It returns nil
// if none of them is traced.
func (t *tracer) newRecorder(sender uint64, readAt time.Time, ids []uint64, batch *outbox.Batch) *traceRecorder {
	step := t.config.SampleRate
	first := rand.IntN(step)
	if first >= batch.Frames {
		return nil
	}
	n := t.reserve((batch.Frames-first+step-1)/step, len(ids))
	if n == 0 {
		return nil
	}
	tr := &traceRecorder{tracer: t, first: first, step: step, traces: make([]Trace, 0, n), undecided: make([]int, n), unreported: n}
	i := 0
	for frame := range wire.Frames(batch.Buffer.Bytes()[batch.From:batch.To]) {
		if i == first+len(tr.traces)*step && len(tr.traces) < n {
			tr.undecided[len(tr.traces)] = len(ids)
			tr.traces = append(tr.traces, newTrace(sender, readAt, ids, frame))
		}
		i++
	}
	t.config.Timers.Add(1)
	tr.timer = time.AfterFunc(t.config.Timeout, tr.expire)
	return tr
}

// newTrace returns the trace of one frame to receivers, whose fates are all pending.
func newTrace(sender uint64, readAt time.Time, ids []uint64, frame []byte) Trace {
	receivers := make([]ReceiverTrace, len(ids))
	for i, id := range ids {
		receivers[i].ID = id
	}
	d := wire.Deliver{Sender: sender}
	version := 1
	frameType, payload := wire.Split(frame)
	if d.Body = payload; frameType == wire.TypeDeliver {
		d, _ = wire.ParseDeliver(payload) // encoded by this hub
		version = 2
	}
	return Trace{Version: version, Sender: d.Sender, Seq: d.Seq, BodyLen: len(d.Body), ReadAt: readAt, Receivers: receivers}
}

// reserve returns how many of n messages to that many receivers can be traced, and counts the
// others as dropped.
func (t *tracer) reserve(n, receivers int) int {
	for i := range n {
		if t.receivers.Add(int64(receivers)) > maxSampledReceivers {
			t.receivers.Add(int64(-receivers))
			t.dropped.Add(uint64(n - i))
			return i
		}
	}
	return n
}

// onEnqueue records what an outbox did with frames of the batch.
func (tr *traceRecorder) onEnqueue(b *outbox.Batch, outcome outbox.Outcome) {
	if fate := outcomeFates[outcome]; fate != wire.FatePending {
		tr.record(b.Receiver, fate, b.First, b.Frames)
	}
}

// handleEvent records a later event of frames of the batch: see outbox.EventHandler. Events
// after EventWritten do not matter.
func (tr *traceRecorder) handleEvent(receiver int, event outbox.Event, first, frames int) {
	switch event {
	case outbox.EventAcked:
	case outbox.EventUnacked:
		tr.record(receiver, wire.FateGone, first, frames)
	default:
		tr.record(receiver, eventFates[event], first, frames)
	}
}

// recordRemote records a fate that another hub has decided. A trace ends when a message is written.
func (tr *traceRecorder) recordRemote(receiver int, fate wire.Fate, first, frames int) {
	switch fate {
	case wire.FatePending:
		return // by its report timeout
	case wire.FateReceived, wire.FateProcessed, wire.FateRejected:
		fate = wire.FateWritten
	}
	tr.record(receiver, fate, first, frames)
}

// record records how far frames of the batch have come for one receiver, and emits the traces
// of which it has decided the last receiver.
func (tr *traceRecorder) record(receiver int, fate wire.Fate, first, frames int) {
	tr.mu.Lock()
	elapsed := max(1, time.Since(tr.traces[0].ReadAt))
	var finished []Trace
	for j := max(0, (first-tr.first+tr.step-1)/tr.step); j < len(tr.traces) && tr.first+j*tr.step < first+frames; j++ {
		r := &tr.traces[j].Receivers[receiver]
		if tr.undecided[j] == 0 || r.Decided != 0 {
			continue
		}
		r.Fate = fate
		if r.Queued == 0 && fate <= wire.FateWritten { // perhaps written before Offer returned
			r.Queued = elapsed
		}
		if fate == wire.FateQueued {
			continue
		}
		r.Decided = elapsed
		if tr.undecided[j]--; tr.undecided[j] == 0 {
			finished = append(finished, tr.traces[j])
		}
	}
	tr.unreported -= len(finished)
	allDone := tr.unreported == 0 && len(finished) > 0
	tr.mu.Unlock()
	tr.emit(finished)
	if allDone && tr.timer.Stop() {
		tr.tracer.config.Timers.Done()
	}
}

// expire emits the traces that take too long as they stand: a receiver that reads nothing
// must not keep other messages from being traced.
func (tr *traceRecorder) expire() {
	defer tr.tracer.config.Timers.Done()
	tr.mu.Lock()
	var finished []Trace
	for j := range tr.traces {
		if tr.undecided[j] > 0 {
			tr.undecided[j] = 0
			finished = append(finished, tr.traces[j])
		}
	}
	tr.unreported = 0
	tr.mu.Unlock()
	tr.emit(finished)
}

// emit passes traces to OnTrace, after which nothing changes them.
func (tr *traceRecorder) emit(finished []Trace) {
	for _, t := range finished {
		tr.tracer.receivers.Add(int64(-len(t.Receivers)))
		if !tr.tracer.config.OnTrace(t) {
			tr.tracer.dropped.Add(1)
		}
	}
}
