package simulation

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// Overhead of a message on the wire in addition to its body, in bytes: docs/PROTOCOL.md.
const (
	deliveryOverhead = 4 + 1                // length, type
	relayOverhead    = deliveryOverhead + 1 // length, type, receiver count
	receiverOverhead = 8                    // each receiver's id

	sendOverhead    = deliveryOverhead + 8 + 4 + 4 + 1 // seq, options, TTL, receiver count
	deliverOverhead = deliveryOverhead + 8 + 8 + 8 + 1 // sender, seq, time, flags
	reportOverhead  = deliveryOverhead + 8 + 1         // seq, receiver count; plus 1 for each receiver
)

// Plan is what a run moves if nothing fails.
type Plan struct {
	Clients int `json:"clients"`
	Size    int `json:"size"` // bytes of a body

	Sends      uint64 `json:"sends"`      // of all clients together
	Deliveries uint64 `json:"deliveries"` // one for each receiver of each send
	BodyBytes  uint64 `json:"body_bytes"` // of all deliveries
	// WireBytes counts all bytes that the hub reads and writes for the messages, without
	// acknowledgements.
	WireBytes uint64 `json:"wire_bytes"`
}

// Plan returns what a run with a valid configuration c moves. Byte counts saturate at 2^64-1.
func (c Config) Plan() Plan {
	p := Plan{Clients: c.Clients, Size: c.Size}
	if c.Clients < 2 {
		return p // there are no receivers
	}
	receivers := uint64(c.Clients - 1)
	p.Sends = uint64(c.Clients) * uint64(c.Messages)
	p.Deliveries = p.Sends * receivers
	p.BodyBytes = mulSaturating(p.Deliveries, uint64(c.Size))
	perSend, perDelivery := uint64(relayOverhead), uint64(deliveryOverhead)
	if c.Protocol == 2 {
		perSend, perDelivery = sendOverhead, deliverOverhead
	}
	sent := mulSaturating(p.Sends, perSend+receivers*receiverOverhead+uint64(c.Size))
	delivered := mulSaturating(p.Deliveries, perDelivery+uint64(c.Size))
	p.WireBytes = addSaturating(sent, delivered)
	if c.ReportLevel != LevelNone {
		p.WireBytes = addSaturating(p.WireBytes, mulSaturating(p.Sends, reportOverhead+receivers))
	}
	return p
}

// messagesPerSender returns how many messages each client sends, which is also how many each
// client receives from each of the others.
func (p Plan) messagesPerSender() uint32 {
	if p.Sends == 0 {
		return 0
	}
	return uint32(p.Sends / uint64(p.Clients))
}

// deliveriesPerReceiver returns how many deliveries each client receives.
func (p Plan) deliveriesPerReceiver() uint64 {
	if p.Deliveries == 0 {
		return 0
	}
	return p.Deliveries / uint64(p.Clients)
}

// String describes the plan in one line.
func (p Plan) String() string {
	clients := english.Plural(p.Clients, "client", "")
	if p.Deliveries == 0 {
		return clients + ", nothing to send"
	}
	return fmt.Sprintf("%s send %s × %s each to %s: %s deliveries, %s of bodies, %s on the wire",
		clients, humanize.Comma(int64(p.messagesPerSender())), humanize.Bytes(uint64(p.Size)),
		english.Plural(p.Clients-1, "other", ""),
		humanize.Comma(int64(p.Deliveries)), humanize.BytesN(p.BodyBytes, 3), humanize.BytesN(p.WireBytes, 3))
}

// mulSaturating returns a·b, or the largest uint64 on overflow.
func mulSaturating(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	if high != 0 {
		return math.MaxUint64
	}
	return low
}

// addSaturating returns a+b, or the largest uint64 on overflow.
func addSaturating(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return sum
}
