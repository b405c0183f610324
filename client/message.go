package client

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// Message is a message that another client sent.
type Message struct {
	// Body belongs to the receiver, without a limit in time, until Release is called. In
	// Options.OnMessage, Body belongs to the client again when OnMessage returns. Small bodies
	// that arrived together share one buffer of up to 64 KiB, which is freed with the last of
	// them: clone a body that is kept for long.
	Body []byte

	// From is the id of the sender, as the hub knows it; 0 in version 1, which does not tell the
	// sender.
	From uint64

	// Seq is the number that the sender gave the message. It increases with each message of a
	// sender; 0 if the sender speaks version 1.
	Seq uint64

	// With these fields a Message has eight words, which a function call passes in registers.
	// Passed in memory, each call would cost as much as the rest of the work for a small message
	// (docs/decisions/0016).
	unixMicros uint64       // when the hub received the message, in µs since 1970; 0: unknown
	verdicts   *verdictSink // takes the verdict; nil: the sender wants none
	buffer     *body.Buffer // nil: OnMessage has borrowed the body
}

// Time returns when the hub received the message, by the clock of the hub, in µs resolution. It
// returns the zero time in version 1.
func (m Message) Time() time.Time {
	if m.unixMicros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(m.unixMicros))
}

// Release returns the memory of Body for the next message. It saves garbage collector work when
// messages are many. It must be called at most once, and Body must not be used afterwards.
// Release is optional: the garbage collector frees messages without it. In Options.OnMessage,
// Release does nothing.
func (m Message) Release() {
	if m.buffer != nil {
		m.buffer.Release()
	}
}

// Ack tells the sender that the application has processed the message. It does nothing if the
// sender did not ask for wire.LevelProcessed. Ack does not block, and can be called by any
// goroutine, also after Release. The sender gets the verdict even if the connection is lost
// meanwhile, unless this client loses its session (EventNewID): verdicts on messages of the old
// session are dropped.
func (m Message) Ack() {
	if m.verdicts != nil {
		m.verdicts.add(m.From, m.Seq, wire.FateProcessed)
	}
}

// Nak tells the sender that the application rejects the message, with wire.FateRejected. The
// hub does not deliver the message again. Nak is otherwise like Ack. Only the first verdict on
// a message counts. The copies of a message whose sender listed this client twice have one
// verdict in common.
func (m Message) Nak() {
	if m.verdicts != nil {
		m.verdicts.add(m.From, m.Seq, wire.FateRejected)
	}
}
