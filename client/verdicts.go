package client

import (
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// verdicts holds the verdicts of the application on received messages until the hub has
// confirmed them. The hub confirms the verdicts before a PING with its PONG.
type verdicts struct {
	scheduleTick func() // causes a probe later, if no PONG comes before; called without mu

	// Guarded by mu.
	mu           sync.Mutex
	conn         *conn           // nil while disconnected
	options      *outbox.Options // of VERDICT frames on conn
	pending      []wire.Verdict  // verdicts that the hub has not confirmed
	sent         int             // how many of pending were sent on conn
	confirmed    uint64          // number of confirmed verdicts, ever
	writePending bool            // a VERDICT frame is queued; later verdicts wait for the next one
	unwritten    int             // how many of sent are in a frame that may not be written yet
	generation   uint32          // changes with each new session
}

func (v *verdicts) init(scheduleTick func()) { v.scheduleTick = scheduleTick }

// verdictSink takes verdicts on the messages of one generation, which means of one session.
type verdictSink struct {
	verdicts   *verdicts
	generation uint32
}

// add adds a verdict on message seq of sender. It does not block.
func (s *verdictSink) add(sender, seq uint64, fate wire.Fate) {
	s.verdicts.add(wire.Verdict{Sender: sender, Seq: seq, Fate: fate}, s.generation)
	s.verdicts.scheduleTick()
}

// maxVerdictsPerFrame is the maximum number of verdicts in one frame: 68 KiB.
const maxVerdictsPerFrame = 4096

// add adds a verdict and sends it. It drops verdicts of an earlier generation: in a new session
// the same sender and seq can be another message.
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

// send sends the unsent verdicts in one frame, unless a frame is queued already.
func (v *verdicts) send() {
	v.mu.Lock()
	n := min(len(v.pending)-v.sent, maxVerdictsPerFrame)
	if v.conn == nil || v.writePending || n == 0 {
		v.mu.Unlock()
		return
	}
	cn, options := v.conn, v.options
	buffer := body.Get(wire.VerdictsLen(n))
	frame := wire.AppendVerdicts(buffer.Bytes()[:0], v.pending[v.sent:v.sent+n])
	v.sent += n
	v.writePending, v.unwritten = true, n
	v.mu.Unlock()
	cn.sendBatch(&outbox.Batch{Buffer: buffer, To: len(frame), Frames: 1, Options: options})
	buffer.Release()
}

// onWritten is called when a VERDICT frame has been written on cn or lost.
func (v *verdicts) onWritten(cn *conn) {
	v.mu.Lock()
	if v.conn == cn {
		v.writePending, v.unwritten = false, 0
	}
	v.mu.Unlock()
	v.send()
}

// probe sends a PING on cn. The PONG confirms the verdicts that were written before, and the hub
// sends a pending ACK before the PONG.
func (v *verdicts) probe(cn *conn) {
	cn.sendFrame(wire.AppendPing(nil, 1+v.writtenCount(cn)), &forceOptions)
}

// writtenCount returns the number of verdicts that the PONG confirms if a PING is sent on cn
// now. Only written verdicts count: a PING can overtake queued ones.
func (v *verdicts) writtenCount(cn *conn) (written uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.conn != cn {
		return 0
	}
	return v.confirmed + uint64(v.sent-v.unwritten)
}

// hasUnconfirmed reports whether sent verdicts are unconfirmed. confirmed changes with each
// confirmation.
func (v *verdicts) hasUnconfirmed() (yes bool, confirmed uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.conn != nil && v.sent > 0, v.confirmed
}

// confirm handles a PONG on cn: the hub has the first confirmed verdicts.
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

// detach is called when the connection has ended.
func (v *verdicts) detach() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conn, v.writePending, v.unwritten = nil, false, 0
}

// attach continues on cn. With a new session it drops all verdicts and starts a new generation.
// In a resumed session it sends the unconfirmed verdicts again. It returns the sink for the
// messages of cn.
func (v *verdicts) attach(cn *conn, newSession bool) *verdictSink {
	v.mu.Lock()
	options := trackedOptions(func() { v.onWritten(cn) })
	v.conn, v.options, v.sent = cn, &options, 0
	if newSession {
		v.pending = nil
		v.generation++
	}
	sink := &verdictSink{v, v.generation}
	v.mu.Unlock()
	v.send()
	return sink
}
