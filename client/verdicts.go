package client

import (
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// verdicts are what the application made of messages whose senders wait to hear it:
// on their way to the hub until it has answered a PING that was sent behind them.
type verdicts struct {
	mu     sync.Mutex
	link   *link      // nil: there is none now
	acks   []wire.Ack // that the hub has perhaps not heard
	sent   int        // how many of them were sent on link
	heard  uint64     // how many were dropped because the hub has heard them
	saying bool       // an ACK waits to be written; those that come meanwhile go together
	fresh  int        // how many of those that were sent are perhaps not in line yet
	era    uint32     // changes when the hub knows nothing of what came before
}

// judge takes verdicts on the messages of one era.
type judge struct {
	client *Client
	era    uint32
}

// add takes a verdict on the message of a sender.
func (j *judge) add(sender, seq uint64, fate wire.Fate) {
	j.client.verdicts.add(wire.Ack{Sender: sender, Seq: seq, Fate: fate}, j.era)
	j.client.soon.arm()
}

// acksMost is how many verdicts one frame carries: 68 KiB.
const acksMost = 4096

// add takes a verdict on a message of an era and gets it on its way. To a hub of another
// one it would mean another message.
func (v *verdicts) add(a wire.Ack, era uint32) {
	v.mu.Lock()
	if era != v.era {
		v.mu.Unlock()
		return
	}
	v.acks = append(v.acks, a)
	v.mu.Unlock()
	v.say()
}

// say sends what has not been sent.
func (v *verdicts) say() {
	v.mu.Lock()
	n := min(len(v.acks)-v.sent, acksMost)
	if v.link == nil || v.saying || n == 0 {
		v.mu.Unlock()
		return
	}
	l := v.link
	buffer := body.Get(wire.AcksLen(n))
	frame := wire.AppendAcks(buffer.Bytes()[:0], v.acks[v.sent:v.sent+n])
	v.sent += n
	v.saying, v.fresh = true, n
	v.mu.Unlock()
	l.tell(&socket.Piece{Buffer: buffer, To: len(frame), Frames: 1, Terms: &l.verdicts})
	buffer.Release()
}

// said notes that an ACK has been written on l, or never will be.
func (v *verdicts) said(l *link) {
	v.mu.Lock()
	if v.link == l {
		v.saying, v.fresh = false, 0
	}
	v.mu.Unlock()
	v.say()
}

// mark returns what the hub has heard when it answers a PING that is sent on l now: what
// is written, for a PING may overtake what is not.
func (v *verdicts) mark(l *link) (heard uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.link != l {
		return 0
	}
	return v.heard + uint64(v.sent-v.fresh)
}

// unsure reports whether the hub has perhaps not heard everything, and how much it
// has.
func (v *verdicts) unsure() (yes bool, heard uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.link != nil && v.sent > 0, v.heard
}

// confirm takes note of what the hub has heard.
func (v *verdicts) confirm(l *link, heard uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.link != l || heard <= v.heard || heard-v.heard > uint64(v.sent) {
		return
	}
	n := int(heard - v.heard)
	v.acks = append(v.acks[:0], v.acks[n:]...)
	v.sent -= n
	v.heard = heard
}

// detach says that there is no connection now.
func (v *verdicts) detach() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.link, v.saying, v.fresh = nil, false, 0
}

// attach goes on on a new connection, without what the hub has forgotten. It returns the
// era of what comes on it.
func (v *verdicts) attach(l *link, anew bool) (era uint32) {
	v.mu.Lock()
	v.link, v.sent = l, 0
	if anew {
		v.acks = nil
		v.era++
	}
	era = v.era
	v.mu.Unlock()
	v.say()
	return era
}
