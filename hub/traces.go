package hub

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

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

// newTrace returns t as Config.OnTrace receives it.
func newTrace(t relay.Trace) Trace {
	receivers := make([]ReceiverTrace, len(t.Receivers))
	for i, r := range t.Receivers {
		receivers[i] = ReceiverTrace(r)
	}
	return Trace{Version: t.Version, Sender: t.Sender, Seq: t.Seq, BodyLen: t.BodyLen, ReadAt: t.ReadAt, Receivers: receivers}
}
