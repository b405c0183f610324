package hub

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// maxSampledReceivers is the maximum number of receivers, of all messages together, that are
// traced at once: 1 MiB of memory, or 128 messages to 255 receivers.
const maxSampledReceivers = 32 << 10

// Trace says what the hub did with one message: see Config.OnTrace.
type Trace struct {
	Version   int             // of the protocol that its sender speaks
	Sender    uint64          // id
	Seq       uint64          // given by the sender; 0 in version 1, which has none
	BodyLen   int             // in bytes
	ReadAt    time.Time       // when the hub had read it
	Receivers []ReceiverTrace // in the order in which the sender named them
}

// ReceiverTrace is the delivery of a message to one receiver. Times count from Trace.ReadAt.
type ReceiverTrace struct {
	ID     uint64
	Fate   wire.Fate     // written, or why not; pending or queued: undecided at Config.ReportTimeout
	Queued time.Duration // when it was in the receiver's queue, about; 0: never
	// when the receiver's socket took it, or it was clear that it will not; 0: never
	Decided time.Duration
}

// traceRecorder records the traces of the sampled messages of a batch.
type traceRecorder struct {
	// Static after readBatch.newTraceRecorder.
	hub         *Hub
	first, step int // the sampled messages are the frames first, first+step, …

	// mu guards the fields below.
	mu         sync.Mutex
	timer      *time.Timer // bounds how long the traces stay open
	traces     []Trace
	undecided  []int // by trace: how many receivers are undecided; 0: the trace was emitted
	unreported int   // traces that were not emitted
}

// newTraceRecorder samples the messages of a batch. Mostly it returns nil, and none is
// traced.
func (rb *readBatch) newTraceRecorder(ids []uint64, batch *outbox.Batch) *traceRecorder {
	h := rb.conn.hub
	step := h.config.TraceSampleRate
	first := rand.IntN(step)
	if first >= batch.Frames {
		return nil
	}
	n := h.reserveTraces((batch.Frames-first+step-1)/step, len(ids))
	if n == 0 {
		return nil
	}
	tr := &traceRecorder{hub: h, first: first, step: step, traces: make([]Trace, 0, n), undecided: make([]int, n), unreported: n}
	i := 0
	for frame := range wire.Frames(batch.Buffer.Bytes()[batch.From:batch.To]) {
		if i == first+len(tr.traces)*step && len(tr.traces) < n {
			tr.undecided[len(tr.traces)] = len(ids)
			tr.traces = append(tr.traces, rb.newTrace(ids, frame))
		}
		i++
	}
	h.conns.running.Add(1) // for the timer
	tr.timer = time.AfterFunc(h.config.ReportTimeout, tr.expire)
	return tr
}

// newTrace returns the trace of one frame to receivers, whose fates are all pending.
func (rb *readBatch) newTrace(ids []uint64, frame []byte) Trace {
	receivers := make([]ReceiverTrace, len(ids))
	for i, id := range ids {
		receivers[i].ID = id
	}
	d := wire.Deliver{Sender: rb.conn.id.Load()}
	version := 1
	frameType, payload := wire.Split(frame)
	if d.Body = payload; frameType == wire.TypeDeliver {
		d, _ = wire.ParseDeliver(payload) // encoded by this hub
		version = 2
	}
	return Trace{Version: version, Sender: d.Sender, Seq: d.Seq, BodyLen: len(d.Body), ReadAt: rb.readAt, Receivers: receivers}
}

// reserveTraces returns how many of n messages to that many receivers can be traced, and
// counts the others as dropped.
func (h *Hub) reserveTraces(n, receivers int) int {
	for i := range n {
		if h.sampledReceivers.Add(int64(receivers)) > maxSampledReceivers {
			h.sampledReceivers.Add(int64(-receivers))
			h.counters.tracesDropped.Add(uint64(n - i))
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
		tr.hub.conns.running.Done()
	}
}

// expire emits the traces that take too long as they stand: a receiver that reads nothing
// must not keep other messages from being traced.
func (tr *traceRecorder) expire() {
	defer tr.hub.conns.running.Done()
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

// emit passes traces to Config.OnTrace, after which nothing changes them.
func (tr *traceRecorder) emit(finished []Trace) {
	for _, t := range finished {
		tr.hub.sampledReceivers.Add(int64(-len(t.Receivers)))
		if !tr.hub.config.OnTrace(t) {
			tr.hub.counters.tracesDropped.Add(1)
		}
	}
}
