package socket

import (
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// partialFrame is a frame of which not all has come. It is pooled, so that a connection between two
// frames does not hold it.
type partialFrame struct {
	start        *body.Buffer // its start, between turns
	startLen     int
	large        *body.Buffer // its own memory, which it is read straight into
	largeLen     int          // how much of it is in big
	size         int          // on the wire; 0: not yet known
	partialSince monotime     // when it began to wait for its rest; 0: there is none
	progressAt   monotime     // when it last progressed: see minFrameRate
	progressLen  int          // bytes of it that had come then
	startedAt    int64        // when its start was read, in ns since 1970
	streamed     bool         // it is not left in the kernel: see whole.go
	kernelBytes  int          // bytes of Config.KernelBudget that it takes
	stuckSince   monotime     // since when the kernel takes no more of it; 0: it does
	stuckLen     int          // how many bytes the kernel held then
}

var partialFrames = sync.Pool{New: func() any { return new(partialFrame) }}

// noPartialFrame is what all Readers between two frames share. It is never written: begin must have run
// before a field of a Reader's partial is set.
var noPartialFrame = new(partialFrame)

// idleTimer is what Reader.NotifyIdle waits for.
type idleTimer struct {
	timeout   time.Duration
	deadline  monotime // the read deadline that was set last for that
	bytesRead int64    // value of brought when it was set
}
