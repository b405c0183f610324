package socket

import (
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// partialFrame is the state of a frame of which only a part has arrived. It is pooled: a
// connection between two frames holds none.
type partialFrame struct {
	start        *body.Buffer // the start of the frame, kept between two reads
	startLen     int
	large        *body.Buffer // final memory of the frame, which reads write to directly
	largeLen     int          // bytes of the frame in large
	size         int          // size of the frame on the wire, in bytes; 0: not known yet
	partialSince monotime     // when the wait for the rest of the frame began; 0: none
	progressAt   monotime     // when the frame last progressed: see minFrameRate
	progressLen  int          // bytes of the frame that had arrived then
	startedAt    int64        // when the start of the frame was read, in ns since 1970
	streamed     bool         // the frame is not left in the kernel: see whole_linux.go
	kernelBytes  int          // bytes of Config.KernelBudget acquired for the frame
	stuckSince   monotime     // since when the kernel accepts no more of the frame; 0: it accepts more
	stuckLen     int          // bytes that the kernel held then
}

var partialFrames = sync.Pool{New: func() any { return new(partialFrame) }}

// noPartialFrame is shared by all Readers between two frames. It is never written to:
// startPartial must run before a field of a Reader's partialFrame is set.
var noPartialFrame = new(partialFrame)

// stuckTimeout is how long the kernel can accept no more of a frame before the frame is read
// as it arrives. It is longer than the time after which a peer first probes a closed window.
const stuckTimeout = 300 * time.Millisecond

// isStuck reports whether the kernel, which holds n bytes of the frame, has accepted no more
// for stuckTimeout.
func (f *partialFrame) isStuck(n int) bool {
	if f.stuckSince == 0 || n > f.stuckLen {
		f.stuckSince, f.stuckLen = now(), n
	}
	return f.stuckSince.add(stuckTimeout).until() <= 0
}

// idleTimer is the state of Reader.NotifyIdle.
type idleTimer struct {
	timeout   time.Duration
	deadline  monotime // the read deadline that was last set for the timer
	bytesRead int64    // value of Reader.bytesRead when the deadline was set
}
