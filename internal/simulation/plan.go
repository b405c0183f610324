package simulation

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// What a message takes on the wire around its body, in bytes: docs/PROTOCOL.md.
const (
	deliveryOverhead = 4 + 1                // length, type
	relayOverhead    = deliveryOverhead + 1 // length, type, count of receivers
	receiverOverhead = 8                    // each receiver's id

	sendOverhead    = deliveryOverhead + 8 + 4 + 4 + 1 // seq, options, time to live, count of receivers
	deliverOverhead = deliveryOverhead + 8 + 8 + 8 + 1 // sender, seq, time, flags
	reportOverhead  = deliveryOverhead + 8 + 1         // seq, count of receivers; and a byte for each
)

// Plan is what a run is about to move.
type Plan struct {
	Clients int `json:"clients"`
	Size    int `json:"size"` // bytes of a body

	Sends      uint64 `json:"sends"`      // of all clients together
	Deliveries uint64 `json:"deliveries"` // one for each receiver of each send
	BodyBytes  uint64 `json:"body_bytes"` // of all deliveries
	WireBytes  uint64 `json:"wire_bytes"` // everything that the hub reads and writes for it, but acknowledgements
}

// Plan returns what a valid c moves. Byte counts beyond 2^64 are given as 2^64-1.
func (c Config) Plan() Plan {
	p := Plan{Clients: c.Clients, Size: c.Size}
	if c.Clients < 2 {
		return p // nobody to send to
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

// messagesPerSender returns how many messages each client sends and how many each
// receives from each of the others.
func (p Plan) messagesPerSender() uint32 {
	if p.Sends == 0 {
		return 0
	}
	return uint32(p.Sends / uint64(p.Clients))
}

// deliveriesPerReceiver returns how many deliveries each client gets.
func (p Plan) deliveriesPerReceiver() uint64 {
	if p.Deliveries == 0 {
		return 0
	}
	return p.Deliveries / uint64(p.Clients)
}

// String says it in one line.
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

// mulSaturating multiplies and stops at the largest uint64.
func mulSaturating(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	if high != 0 {
		return math.MaxUint64
	}
	return low
}

// addSaturating adds and stops at the largest uint64.
func addSaturating(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return sum
}
