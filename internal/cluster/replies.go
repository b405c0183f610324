package cluster

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// maxGathered is the number of bytes of replies at which they are sent at once.
const maxGathered = 4 << 10

// gatherDelay is how long replies are gathered before they are sent. Batches in the other direction
// take them along earlier.
const gatherDelay = time.Millisecond

// reservedDelay is how much longer that is for each transfer with memory of the reserve. All of
// them are looked at each time, which then takes less than a hundredth of the time.
const reservedDelay = 5 * time.Microsecond

// replies gathers what a hub says about the batches of another hub: that they are queued, and their
// fates. Its methods can be called concurrently.
type replies struct {
	// Static after construction.
	stream  stream
	account *body.Account // of the receiver: demands room while transfers have memory of the reserve

	// mu guards the fields below.
	mu          sync.Mutex
	first, last uint64 // transfers that are queued, and not said to be; last 0: none
	reserved    []reservedTransfer
	gathered    int // bytes that were appended to the stream, and not flushed
	timer       *time.Timer
	closed      bool
}

// reservedTransfer is a transfer whose memory is charged to an account in the reserve.
type reservedTransfer struct {
	number  uint64
	account *body.Account
}

// addQueued records that a transfer is queued for all receivers. Of a transfer with memory of the
// reserve, the other hub learns it once that memory is released.
func (r *replies) addQueued(number uint64, reserved *body.Account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	if reserved != nil {
		r.reserved = append(r.reserved, reservedTransfer{number, reserved})
		reserved.SetDemand(true) // so that receivers are found that hold it and do not read
		r.account.SetDemand(true)
	} else {
		r.queued(number)
	}
	r.startTimer()
}

// queued adds a transfer to the range that is said next. It is called with mu held.
func (r *replies) queued(number uint64) {
	switch {
	case r.last == 0:
		r.first, r.last = number, number
	case number == r.last+1:
		r.last = number
	default:
		r.appendQueued()
		r.first, r.last = number, number
	}
}

// releaseReserved says of those transfers that they are queued whose memory is released. It is
// called with mu held.
func (r *replies) releaseReserved() {
	r.reserved = slices.DeleteFunc(r.reserved, func(t reservedTransfer) bool {
		if t.account.InUse() {
			return false
		}
		r.queued(t.number)
		return true
	})
	if len(r.reserved) == 0 {
		r.account.SetDemand(false)
	}
}

// addPartQueued records that a transfer is queued for the receivers at these positions.
func (r *replies) addPartQueued(number uint64, flags byte, at []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	head := make([]byte, 0, recordHeaderSize+partHeadSize+len(at))
	head = appendRecordHeader(head, recordPartQueued, partHeadSize+len(at), 0)
	head = binary.BigEndian.AppendUint64(head, number)
	head = append(head, flags, byte(len(at)))
	r.append(append(head, at...))
}

// addFates records REPORTs for a transfer.
func (r *replies) addFates(number uint64, reports []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(reports) > 0 {
		part := reports[:0]
		for frame := range wire.Frames(reports) {
			if len(part)+len(frame) > maxControlBody {
				break
			}
			part = reports[:len(part)+len(frame)]
		}
		reports = reports[len(part):]
		record := make([]byte, 0, recordHeaderSize+fatesHeadSize+len(part))
		record = appendRecordHeader(record, recordFates, fatesHeadSize, len(part))
		record = binary.BigEndian.AppendUint64(record, number)
		r.append(append(record, part...))
	}
}

// appendQueued appends the range of transfers that are queued. It is called with mu held.
func (r *replies) appendQueued() {
	if r.last == 0 {
		return
	}
	head := appendRecordHeader(make([]byte, 0, recordHeaderSize+queuedHeadSize), recordQueued, queuedHeadSize, 0)
	head = binary.BigEndian.AppendUint64(head, r.first)
	head = binary.BigEndian.AppendUint64(head, r.last)
	r.first, r.last = 0, 0
	r.append(head)
}

// append appends a record, and has it sent soon. It is called with mu held.
func (r *replies) append(record []byte) {
	if r.closed {
		return
	}
	r.stream.Append(record, nil, 0, 0)
	r.gathered += len(record)
	if r.gathered >= maxGathered {
		r.gathered = 0
		r.stream.Flush()
		return
	}
	r.startTimer()
}

// startTimer has what was gathered sent after gatherDelay. It is called with mu held.
func (r *replies) startTimer() {
	if r.closed || r.timer != nil {
		return
	}
	delay := gatherDelay + time.Duration(len(r.reserved))*reservedDelay
	r.timer = time.AfterFunc(delay, r.onTimer)
}

// onTimer sends what was gathered.
func (r *replies) onTimer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer = nil
	if r.closed {
		return
	}
	r.releaseReserved()
	r.flush()
	if len(r.reserved) > 0 {
		r.startTimer()
	}
}

// flush sends what was gathered. It is called with mu held.
func (r *replies) flush() {
	r.appendQueued()
	r.gathered = 0
	r.stream.Flush()
}

// appendWaiting appends the range of transfers that are queued.
func (r *replies) appendWaiting() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.appendQueued()
	}
}

// flushNow sends what was gathered.
func (r *replies) flushNow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.flush()
	}
}

// close ends the timer. Nothing is appended any more.
func (r *replies) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.account.SetDemand(false)
	if r.timer != nil {
		r.timer.Stop()
	}
}
