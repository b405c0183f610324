package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// The stream of a link consists of records, one behind the other:
//
//	offset  size  field
//	     0     1  type
//	     1     2  length of the head, in bytes
//	     3     4  length of the body, in bytes
//	     7        head, then body
//
// Integers are big-endian. Times are those of the clock of the hub that sends the record, in µs
// (link.Link.Now). A hub ignores a record of an unknown type, and what is in a head behind the
// fields that it knows.
const recordHeaderSize = 7

// recordType is the type of a record.
type recordType uint8

const (
	// recordBatch: messages of one client for clients of the other hub.
	//
	//	 0  8  number of the transfer; numbers increase
	//	 8  8  id of the sender
	//	16  8  seq of the first message; the others follow
	//	24  8  time at which the messages were read, in µs since 1970
	//	32  8  time at which they expire; 0: never
	//	40  8  time until which their reports wait; 0: there are no reports
	//	48  4  options of the SEND
	//	52  4  number of messages
	//	56  1  flags: batchIsSend
	//	57  1  number of receivers, n
	//	58  8n ids of the receivers
	//	body   the DELIVERs of version 2, or the deliveries of version 1
	recordBatch recordType = 1

	// recordQueued: the transfers are queued for all receivers, and their memory at the receiving
	// hub is charged to its budget.
	//
	//	0  8  number of the first transfer
	//	8  8  number of the last transfer
	recordQueued recordType = 2

	// recordPartQueued: a transfer is queued for these receivers.
	//
	//	0  8  number of the transfer
	//	8  1  flags: partAccepted
	//	9  1  number of receivers, n
	//	10 n  positions of the receivers in the batch
	recordPartQueued recordType = 3

	// recordFates: REPORTs for messages of a transfer. Their fates are in the order of the
	// receivers of the batch.
	//
	//	0  8  number of the transfer
	//	body  the REPORTs
	recordFates recordType = 4

	// recordClients: changes of the clients of the hub.
	//
	//	0  8  revision of the clients after the change
	//	8  1  flags: clientsSnapshot, clientsMore
	//	9  4  number of clients that joined, n
	//	body  n times: 8 id, 8 connect time in µs since 1970; then 8 for each id that left
	recordClients recordType = 5
)

const (
	batchIsSend = 1 << 0 // the messages are of version 2

	// The memory of the transfer is charged to the budget of the receiving hub, although receivers
	// block it.
	partAccepted = 1 << 0

	clientsSnapshot = 1 << 0 // the record begins a list of all clients of the hub
	clientsMore     = 1 << 1 // the list continues in the next recordClients
)

const (
	batchHeadSize   = 58
	queuedHeadSize  = 16
	partHeadSize    = 10
	fatesHeadSize   = 8
	clientsHeadSize = 13

	// maxHead is the maximum length of a head: a batch with 255 receivers, and space for later
	// fields.
	maxHead = 4 << 10

	// maxControlBody is the maximum length of the body of a record that carries no messages. It
	// bounds what a link buffers for a record.
	maxControlBody = 64 << 10

	// maxRecordBody is the maximum length of the body of any record: a body of wire.MaxBodyLimit
	// bytes, which fits a window made for it.
	maxRecordBody = wire.MaxBodyLimit + 1<<10

	// maxClientsPerRecord is the maximum number of clients in one recordClients.
	maxClientsPerRecord = maxControlBody / 16
)

// errNonsense is the cause of a break after bytes that no hub sends.
var errNonsense = errors.New("the other hub sends nonsense")

// nonsense returns an error that wraps errNonsense.
func nonsense(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errNonsense, fmt.Sprintf(format, args...))
}

// appendRecordHeader appends the header of a record.
func appendRecordHeader(b []byte, t recordType, head, body int) []byte {
	b = append(b, byte(t))
	b = binary.BigEndian.AppendUint16(b, uint16(head))
	return binary.BigEndian.AppendUint32(b, uint32(body))
}

// batchHead is the head of a recordBatch.
type batchHead struct {
	number, origin, firstSeq uint64
	readAt                   int64
	expires, reportBy        int64
	options                  wire.Options
	frames                   int
	isSend                   bool
}

// appendBatchHead appends the record header and the head of a batch, without the ids of its
// receivers, which must follow.
func appendBatchHead(b []byte, h *batchHead, receivers, body int) []byte {
	b = appendRecordHeader(b, recordBatch, batchHeadSize+receivers*wire.IDSize, body)
	for _, n := range [...]uint64{h.number, h.origin, h.firstSeq, uint64(h.readAt), uint64(h.expires), uint64(h.reportBy)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(h.options))
	b = binary.BigEndian.AppendUint32(b, uint32(h.frames))
	var flags byte
	if h.isSend {
		flags = batchIsSend
	}
	return append(b, flags, byte(receivers))
}

// parseBatchHead parses the head of a recordBatch.
func parseBatchHead(head []byte) (h batchHead, receivers wire.IDs, err error) {
	if len(head) < batchHeadSize {
		return h, nil, nonsense("batch with a head of %d bytes", len(head))
	}
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(head[at:]) }
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(head[at:]) }
	h = batchHead{
		number: u64(0), origin: u64(8), firstSeq: u64(16), readAt: int64(u64(24)), expires: int64(u64(32)), reportBy: int64(u64(40)),
		options: wire.Options(u32(48)), frames: int(u32(52)), isSend: head[56]&batchIsSend != 0,
	}
	ids := head[batchHeadSize:]
	n := int(head[57]) * wire.IDSize
	if n == 0 || len(ids) < n {
		return h, nil, nonsense("batch for %d receivers with a head of %d bytes", head[57], len(head))
	}
	return h, wire.IDs(ids[:n]), nil
}

// checkBatch checks that body holds the messages that h announces, and nothing else: what it
// passes goes to clients as it is.
func checkBatch(h *batchHead, body []byte) error {
	if h.options.Overflow() > wire.OverflowDropOldest || !h.isSend && (h.options != 0 || h.expires != 0 || h.reportBy != 0) {
		return nonsense("batch with options %#x", uint32(h.options))
	}
	frames := 0
	for rest := body; len(rest) > 0; frames++ {
		size, err := wire.Size(rest, len(rest))
		if err != nil || size == 0 || size > len(rest) {
			return nonsense("batch with a torn frame")
		}
		if err := checkMessage(h, frames, rest[:size]); err != nil {
			return err
		}
		rest = rest[size:]
	}
	if frames != h.frames || frames == 0 {
		return nonsense("batch of %d frames that announces %d", frames, h.frames)
	}
	return nil
}

// checkMessage checks one frame of a batch.
func checkMessage(h *batchHead, index int, frame []byte) error {
	t, payload := wire.Split(frame)
	if !h.isSend {
		if t != wire.TypeRelay {
			return nonsense("frame of type %#x in a batch of version 1", uint8(t))
		}
		return nil
	}
	if t != wire.TypeDeliver {
		return nonsense("frame of type %#x in a batch of version 2", uint8(t))
	}
	d, err := wire.ParseDeliver(payload)
	switch {
	case err != nil:
		return nonsense("%v", err)
	case d.Sender != h.origin:
		return nonsense("DELIVER of client %d in a batch of client %d", d.Sender, h.origin)
	case (relay.Options{IsSend: true, Wire: h.options}).Tracked() && d.Seq != h.firstSeq+uint64(index):
		return nonsense("DELIVER with seq %d, want %d", d.Seq, h.firstSeq+uint64(index))
	}
	return nil
}
