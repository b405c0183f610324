package hub

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// maxSampledReceivers is how many receivers the messages may have, all together, that are traced at
// once: 1 MiB of memory, 128 messages to 255 receivers.
const maxSampledReceivers = 32 << 10

// Trace is what the hub did with one message: see Config.OnTrace.
type Trace struct {
	Version   int             // of the protocol that its sender speaks
	Sender    uint64          // id
	Seq       uint64          // the sender's number for it; 0 in version 1, which has none
	BodyLen   int             // its size in bytes
	ReadAt    time.Time       // when it had come in
	Receivers []ReceiverTrace // in the order in which the sender named them
}

// ReceiverTrace is what became of a message for one receiver. Times count from Trace.ReadAt.
type ReceiverTrace struct {
	ID      uint64
	Fate    wire.Fate     // written, or why not; pending or queued: that was not clear within Config.ReportTimeout
	Queued  time.Duration // when it was in the receiver's queue, about; 0: it never was
	Decided time.Duration // when the receiver's socket took it, or it was clear that it would not; 0: never
}

// traceRecorder follow the messages of a run that were drawn by lot.
type traceRecorder struct {
	// Static after readBatch.newTraceRecorder.
	hub         *Hub
	first, step int // they are the frames first, first+step, … of the run

	mu         sync.Mutex
	timer      *time.Timer // of those that take too long
	traces     []Trace
	undecided  []int // for each: how many receivers are undecided; 0: it was told
	unreported int   // how many were not
}

// newTraceRecorder draws by lot which messages of a run are traced. Mostly it returns nil: none.
func (rb *readBatch) newTraceRecorder(ids []uint64, batch *socket.Batch) *traceRecorder {
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

// newTrace returns the trace of one frame to receivers, of which nothing is known yet.
func (rb *readBatch) newTrace(ids []uint64, frame []byte) Trace {
	receivers := make([]ReceiverTrace, len(ids))
	for i, id := range ids {
		receivers[i].ID = id
	}
	d := wire.Deliver{Sender: rb.conn.id.Load()}
	version := 1
	frameType, payload := wire.Split(frame)
	if d.Body = payload; frameType == wire.TypeDeliver {
		d, _ = wire.ParseDeliver(payload) // this hub has made it
		version = 2
	}
	return Trace{Version: version, Sender: d.Sender, Seq: d.Seq, BodyLen: len(d.Body), ReadAt: rb.readAt, Receivers: receivers}
}

// reserveTraces returns how many of n messages with so many receivers may be traced, and counts
// the others.
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

// onEnqueue notes what an outbox did with the run.
func (tr *traceRecorder) onEnqueue(b *socket.Batch, outcome socket.Outcome) {
	switch outcome {
	case socket.Queued:
		tr.record(b.Receiver, wire.FateQueued, b.First, b.Frames)
	case socket.Closed:
		tr.record(b.Receiver, wire.FateGone, b.First, b.Frames)
	case socket.Full:
		tr.record(b.Receiver, wire.FateFull, b.First, b.Frames)
	case socket.AlreadyExpired:
		tr.record(b.Receiver, wire.FateExpired, b.First, b.Frames)
	}
}

// handleEvent is what an outbox tells of the run later: see socket.EventHandler. Nothing that
// comes after it was written matters.
func (tr *traceRecorder) handleEvent(receiver int, event socket.Event, first, frames int) {
	switch event {
	case socket.EventQueued:
		tr.record(receiver, wire.FateQueued, first, frames)
	case socket.EventWritten:
		tr.record(receiver, wire.FateWritten, first, frames)
	case socket.EventExpired:
		tr.record(receiver, wire.FateExpired, first, frames)
	case socket.EventDropped:
		tr.record(receiver, wire.FateFull, first, frames)
	case socket.EventLost, socket.EventUnacked:
		tr.record(receiver, wire.FateGone, first, frames)
	case socket.EventUnreachable:
		tr.record(receiver, wire.FateUnreachable, first, frames)
	case socket.EventTooLarge:
		tr.record(receiver, wire.FateTooLarge, first, frames)
	}
}

// record takes note of how far frames of the run came for one receiver, and tells of the
// messages for which it was the last one that was undecided.
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
		if r.Queued == 0 && fate <= wire.FateWritten { // perhaps it was written before Offer returned
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

// expire tells of what takes too long as it stands: somebody who reads nothing must not
// keep others from being traced.
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

// emit hands traces over that nobody changes any more.
func (tr *traceRecorder) emit(finished []Trace) {
	for _, t := range finished {
		tr.hub.sampledReceivers.Add(int64(-len(t.Receivers)))
		if !tr.hub.config.OnTrace(t) {
			tr.hub.counters.tracesDropped.Add(1)
		}
	}
}
