package socket

import (
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// partial is a frame of which not all has come. It is pooled, so that a connection between two
// frames does not hold it.
type partial struct {
	rest     *body.Buffer // its start, between turns
	restLen  int
	big      *body.Buffer // its own memory, which it is read straight into
	have     int          // how much of it is in big
	size     int          // on the wire; 0: not yet known
	since    moment       // when it began to wait for its rest; 0: there is none
	moved    moment       // when it last progressed: see minFrameRate
	mark     int          // bytes of it that had come then
	began    int64        // when its start was read, in ns since 1970
	overflow bool         // it is not left in the kernel: see whole.go
	room     int          // bytes of Config.Kernel that it takes
	stuck    moment       // since when the kernel takes no more of it; 0: it does
	stuckAt  int          // how many bytes the kernel held then
}

var partials = sync.Pool{New: func() any { return new(partial) }}

// noPartial is what all Readers between two frames share. It is never written: begin must have run
// before a field of a Reader's partial is set.
var noPartial = new(partial)

// idleWatch is what Reader.NotifyIdle waits for.
type idleWatch struct {
	after time.Duration
	at    moment // the read deadline that was set last for that
	seen  int64  // value of brought when it was set
}
