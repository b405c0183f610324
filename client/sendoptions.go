package client

import (
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// SendOptions configure how one message is sent. The zero value of each field means its
// default.
type SendOptions struct {
	// Level is the level that the message must reach for each receiver before the hub sends the
	// report. Default: wire.LevelReceived.
	Level wire.Level

	// TTL is the time to live of the message, from the call on, and at most 49 days. When TTL is
	// over, the message is not written to any more receivers, wherever it waits, and the report is
	// made. Messages also expire in the client, for example while it is disconnected. The fate is
	// uncertain if the message may have arrived before. Time on the network does not count.
	//
	// When the client writes the message, it tells the hub the remaining time, rounded down to
	// whole milliseconds. With less than 1 ms left, the message is not sent. Default: no limit.
	TTL time.Duration

	// ReportTimeout is how long the hub waits for the last receiver before it sends an incomplete
	// report. It is rounded up to a multiple of 100 ms. The hub sets its maximum (1 h by default).
	// A larger value is a *ReportTimeoutTooLongError. The report comes earlier when TTL ends. A
	// hub that does not know this option uses its own timeout. Default: the timeout of the hub (1
	// min by default).
	ReportTimeout time.Duration

	// Overflow is the overflow policy for receivers whose queue is full. Default:
	// wire.OverflowBlock.
	Overflow wire.Overflow
}

// noReportOptions are the options of Send.
var noReportOptions = SendOptions{Level: wire.LevelNone}

// maxTTL is the largest TTL that a SEND can carry: 2³²-1 ms.
const maxTTL = (1<<32 - 1) * time.Millisecond

func (o *SendOptions) validate() error {
	switch {
	case o.TTL < 0 || o.TTL > maxTTL:
		return fmt.Errorf("client: TTL is %v, must be from 0 to %v", o.TTL, maxTTL)
	case o.ReportTimeout < 0 || o.ReportTimeout > wire.MaxReportTimeout:
		return fmt.Errorf("client: ReportTimeout is %v, must be from 0 to %v", o.ReportTimeout, wire.MaxReportTimeout)
	case o.Level > wire.LevelProcessed:
		return fmt.Errorf("client: Level is %d, must be at most %d", o.Level, wire.LevelProcessed)
	case o.Overflow > wire.OverflowDropOldest:
		return fmt.Errorf("client: Overflow is %d, must be at most %d", o.Overflow, wire.OverflowDropOldest)
	}
	return nil
}

func (o *SendOptions) wireOptions() wire.Options { return wire.MakeOptions(o.Level, o.Overflow) }

// ttlMillis returns TTL in milliseconds. When the frame is written, stampTTL replaces the value
// with the remaining time.
func (o *SendOptions) ttlMillis() uint32 { return uint32(o.TTL / time.Millisecond) }

// sockOptions returns the socket options of a message that is sent now, or nil without a TTL.
// The hub gets the remaining time in whole milliseconds when the message is written; because of
// this a message expires when less than 1 ms is left.
func (o *SendOptions) sockOptions() *outbox.Options {
	if o.TTL == 0 {
		return nil
	}
	return &outbox.Options{Expires: time.Now().Add(o.TTL - time.Millisecond).UnixNano(), Stamp: stampTTL}
}

// stampTTL writes the remaining time, in ns, into a SEND: see outbox.Options.Stamp.
func stampTTL(frame []byte, remaining int64) {
	wire.PutSendTTL(frame, uint32((remaining+int64(time.Millisecond))/int64(time.Millisecond)))
}
