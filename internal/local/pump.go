package local

import (
	"runtime"
	"sync"

	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// pumpState is what a goroutine that runs pump needs.
type pumpState struct {
	relay.Sender
	batches []batch
}

// maxIdleQueue is the maximum number of batches for which an idle sender keeps room.
const maxIdleQueue = 64

var pumpStates = sync.Pool{New: func() any { return new(pumpState) }}

// pump offers batches until there are none. It is the body of a goroutine, of which a sender has at
// most one.
func (o *sender) pump() {
	defer o.config.Running.Done()
	p := pumpStates.Get().(*pumpState)
	for o.takeBatches(p) {
		p.Begin(o.config.Relay, o.account)
		for i := range p.batches {
			o.offer(p, &p.batches[i])
		}
		p.Reset()
		clear(p.batches)
		runtime.Gosched() // Sends that had no room go on, and make the next batch larger
	}
	pumpStates.Put(p)
	o.config.Offering.Done()
}

// takeBatches takes all batches. If there are none, it ends the pumping and returns false.
func (o *sender) takeBatches(p *pumpState) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.finishBatch()
	if len(o.queue) == 0 {
		o.pumping = false
		o.builder.Release()
		if cap(o.queue) > maxIdleQueue {
			o.queue = nil
		}
		return false
	}
	p.batches, o.queue = o.queue, p.batches[:0]
	for i := range p.batches {
		b := &p.batches[i]
		o.unsent -= b.cost.InFlight
		o.window.Add(b.last, b.cost)
	}
	return true
}

// offer offers a batch to its receivers, and releases its buffer.
func (o *sender) offer(p *pumpState, b *batch) {
	last := b.last
	m := relay.Messages{Origin: o, Options: b.options, FirstSeq: b.first}
	if blocked, underWay := p.Send(&m, b.to.AppendTo(p.IDBuf()), b.Batch); blocked || underWay {
		p.Flusher.OnUnblocked(func() { o.onQueued(last) })
	} else {
		o.onQueued(last)
	}
	b.Buffer.Release()
}

// newIDBuf returns space for the receivers of a message.
func newIDBuf() []uint64 { return make([]uint64, 0, wire.MaxReceivers) }
