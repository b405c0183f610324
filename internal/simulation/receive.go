package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/stats"
)

// Reading the clock and recording a latency take several times as long as
// everything else that is done for a small message, and the hub shares the
// processor. So a receiver that expects more than sampleAbove deliveries
// measures one in sampleOneIn. Which ones follows from their headers alone, so
// nothing that the hub does can hide from it, and each is measured exactly. With
// more than 8,192 samples per receiver the quantiles do not suffer; the maximum
// is that of the samples.
const (
	sampleAbove = 1 << 16
	sampleBits  = 3
	sampleOneIn = 1 << sampleBits
)

// receiver reads and checks what one client gets.
type receiver struct {
	// Static after newRun.
	client *client.Client
	epoch  time.Time
	oneIn  int // messages for each whose latency is measured

	// Owned by receive, and by the report after it.
	check    *checker
	latency  *stats.Latency
	complete bool
	last     time.Duration // when the last message was measured or the run complete, since the epoch
}

// receive takes messages until ctx ends, and then those that are there already:
// what has arrived is counted, whatever ended the run. It returns early, with the
// reason, when the connection ends. done is called once, when nothing is missing
// any more.
func (r *receiver) receive(ctx context.Context, done func()) error {
	r.note(done) // there may be nothing to wait for
	err := r.takeAll(ctx, done)
	if ctx.Err() != nil {
		r.takeRest(ctx, done)
		return nil
	}
	return fmt.Errorf("client %d (id %d) can receive no more: %w", r.check.self, r.client.ID(), err)
}

// takeRest takes what has arrived already. ctx has ended.
func (r *receiver) takeRest(ctx context.Context, done func()) {
	for {
		message, err := r.client.Receive(ctx)
		if err != nil {
			return
		}
		r.take(message.Body)
		message.Release()
		r.note(done)
	}
}

// takeAll takes messages until ctx ends.
func (r *receiver) takeAll(ctx context.Context, done func()) error {
	for message, err := range r.client.Messages(ctx) {
		if err != nil {
			return err
		}
		r.take(message.Body)
		message.Release()
		r.note(done)
	}
	return nil
}

// take checks one body and, if it is one of those to be measured, its latency.
func (r *receiver) take(body []byte) {
	h, sound := r.check.take(body)
	if !sound || r.oneIn > 1 && h.mix()>>(64-sampleBits) != 0 {
		return
	}
	now := uint64(time.Since(r.epoch))
	if h.intended > now {
		r.check.distrust(h)
		return
	}
	r.last = time.Duration(now)
	r.latency.Record(time.Duration(now - h.intended))
}

// note calls done when the last missing message has come.
func (r *receiver) note(done func()) {
	if r.check.left > 0 || r.complete {
		return
	}
	r.complete = true
	r.last = time.Since(r.epoch)
	done()
}
