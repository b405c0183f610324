package server

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// minGarbage is how much garbage a hub of a cluster collects at once at least, in bytes, as long as
// its heap is small. nats.go allocates memory for each frame that arrives, 64 KiB for the largest.
// With gcPercent and the heap of a hub with few clients, the runtime would collect garbage after
// each 32 frames, which takes more processor time than the frames (docs/decisions/0022).
const minGarbage = 16 << 20

// maxGCPercent is the GC percentage at which the runtime begins no collection below a heap of
// minGarbage: at 100 it begins none below 4 MiB.
const maxGCPercent = 100 * minGarbage / (4 << 20)

// gcPacer sets the GC percentage of the runtime after each collection, so that garbage can be
// minGarbage or gcPercent of the live heap, whichever is more.
type gcPacer struct {
	stopped atomic.Bool

	// Owned by the cleanup of the last collection.
	percent int
	samples []metrics.Sample
}

// startGCPacer starts a gcPacer unless the operator has set GOGC. The caller must call stop.
func startGCPacer() *gcPacer {
	p := &gcPacer{percent: gcPercent, samples: []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}}
	if os.Getenv("GOGC") != "" {
		p.stop()
		return p
	}
	p.adjust(struct{}{})
	return p
}

// stop ends p at the next collection.
func (p *gcPacer) stop() { p.stopped.Store(true) }

// adjust sets the percentage, and has itself called after the next collection. To set it stops all
// goroutines for a moment, therefore a small change is not made.
func (p *gcPacer) adjust(struct{}) {
	if p.stopped.Load() {
		return
	}
	metrics.Read(p.samples)
	base := uint64(0)
	for _, s := range p.samples {
		base += s.Value.Uint64()
	}
	if percent := gcPercentFor(base); percent > p.percent*9/8 || percent < p.percent*7/8 {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
	sentinel := new([64]byte) // collected next time; smaller ones can share memory with others
	runtime.AddCleanup(sentinel, p.adjust, struct{}{})
}

// gcPercentFor returns the percentage for a live heap, including stacks and global variables, of so
// many bytes.
func gcPercentFor(live uint64) int {
	return int(min(maxGCPercent, max(gcPercent, 100*minGarbage/max(live, 1))))
}
