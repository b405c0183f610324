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
	mu           sync.Mutex
	conn         *conn          // nil: there is none now
	pending      []wire.Verdict // that the hub has perhaps not heard
	sent         int            // how many of them were sent on link
	confirmed    uint64         // how many were dropped because the hub has heard them
	writePending bool           // an ACK waits to be written; those that come meanwhile go together
	unwritten    int            // how many of those that were sent are perhaps not in line yet
	generation   uint32         // changes when the hub knows nothing of what came before
}

// verdictSink takes verdicts on the messages of one era.
type verdictSink struct {
	client     *Client
	generation uint32
}

// add takes a verdict on the message of a sender.
func (s *verdictSink) add(sender, seq uint64, fate wire.Fate) {
	s.client.verdicts.add(wire.Verdict{Sender: sender, Seq: seq, Fate: fate}, s.generation)
	s.client.ackTimer.arm()
}

// maxVerdictsPerFrame is how many verdicts one frame carries: 68 KiB.
const maxVerdictsPerFrame = 4096

// add takes a verdict on a message of an era and gets it on its way. To a hub of another
// one it would mean another message.
func (v *verdicts) add(verdict wire.Verdict, generation uint32) {
	v.mu.Lock()
	if generation != v.generation {
		v.mu.Unlock()
		return
	}
	v.pending = append(v.pending, verdict)
	v.mu.Unlock()
	v.send()
}

// send sends what has not been sent.
func (v *verdicts) send() {
	v.mu.Lock()
	n := min(len(v.pending)-v.sent, maxVerdictsPerFrame)
	if v.conn == nil || v.writePending || n == 0 {
		v.mu.Unlock()
		return
	}
	cn := v.conn
	buffer := body.Get(wire.VerdictsLen(n))
	frame := wire.AppendVerdicts(buffer.Bytes()[:0], v.pending[v.sent:v.sent+n])
	v.sent += n
	v.writePending, v.unwritten = true, n
	v.mu.Unlock()
	cn.sendBatch(&socket.Batch{Buffer: buffer, To: len(frame), Frames: 1, Options: &cn.verdictOptions})
	buffer.Release()
}

// onWritten notes that an ACK has been written on l, or never will be.
func (v *verdicts) onWritten(cn *conn) {
	v.mu.Lock()
	if v.conn == cn {
		v.writePending, v.unwritten = false, 0
	}
	v.mu.Unlock()
	v.send()
}

// writtenCount returns what the hub has heard when it answers a PING that is sent on l now: what
// is written, for a PING may overtake what is not.
func (v *verdicts) writtenCount(cn *conn) (written uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.conn != cn {
		return 0
	}
	return v.confirmed + uint64(v.sent-v.unwritten)
}

// hasUnconfirmed reports whether the hub has perhaps not heard everything, and how much it
// has.
func (v *verdicts) hasUnconfirmed() (yes bool, confirmed uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.conn != nil && v.sent > 0, v.confirmed
}

// confirm takes note of what the hub has heard.
func (v *verdicts) confirm(cn *conn, confirmed uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.conn != cn || confirmed <= v.confirmed || confirmed-v.confirmed > uint64(v.sent) {
		return
	}
	n := int(confirmed - v.confirmed)
	v.pending = append(v.pending[:0], v.pending[n:]...)
	v.sent -= n
	v.confirmed = confirmed
}

// detach says that there is no connection now.
func (v *verdicts) detach() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conn, v.writePending, v.unwritten = nil, false, 0
}

// attach goes on on a new connection, without what the hub has forgotten. It returns the
// era of what comes on it.
func (v *verdicts) attach(cn *conn, newSession bool) (generation uint32) {
	v.mu.Lock()
	v.conn, v.sent = cn, 0
	if newSession {
		v.pending = nil
		v.generation++
	}
	generation = v.generation
	v.mu.Unlock()
	v.send()
	return generation
}
