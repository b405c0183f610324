package socket

import (
	"encoding/binary"
	"io"
	"sync"
	"time"
	"unicode/utf8"
)

// The errors of a close frame.
var (
	errCloseStatus = &WebSocketError{StatusProtocolError, "invalid status in a close frame"}
	errCloseReason = &WebSocketError{StatusInvalidPayload, "reason of a close frame is not UTF-8"}
)

// controlFrame is a control frame as a server sends it: without a mask. It is pooled.
type controlFrame struct {
	bytes [2 + maxControlPayload]byte
}

var controlFrames = sync.Pool{New: func() any { return new(controlFrame) }}

func newControlFrame(op opCode) *controlFrame {
	f := controlFrames.Get().(*controlFrame)
	f.setOpCode(op)
	f.bytes[1] = 0
	return f
}

func (f *controlFrame) free() { controlFrames.Put(f) }

func (f *controlFrame) opCode() opCode      { return opCode(f.bytes[0] & 0xf) }
func (f *controlFrame) setOpCode(op opCode) { f.bytes[0] = finBit | byte(op) }
func (f *controlFrame) payload() []byte     { return f.wire()[2:] }
func (f *controlFrame) addPayload(p []byte) { f.bytes[1] += byte(copy(f.bytes[2+f.bytes[1]:], p)) }

// wire returns the whole frame.
func (f *controlFrame) wire() []byte { return f.bytes[:2+f.bytes[1]] }

// closeStatus returns the status of a close frame: statusNone if it has no payload.
func (f *controlFrame) closeStatus() (CloseStatus, error) {
	p := f.payload()
	if len(p) == 0 {
		return statusNone, nil
	}
	if len(p) < 2 {
		return 0, errCloseStatus
	}
	status := CloseStatus(binary.BigEndian.Uint16(p))
	switch {
	case !status.isValid():
		return 0, errCloseStatus
	case !utf8.Valid(p[2:]):
		return 0, errCloseReason
	}
	return status, nil
}

// closeFrameTimeout limits the time that a close frame takes on a connection whose Write always
// waits. Other connections take it at once, or not at all.
const closeFrameTimeout = 100 * time.Millisecond

// The control frames of a webSocketTransport.

// handleControl handles a control frame of the client and takes it over. The error ends the
// reading.
func (t *webSocketTransport) handleControl(f *controlFrame) error {
	switch f.opCode() {
	case opPing:
		f.setOpCode(opPong)
		if f = t.pong.Swap(f); f != nil { // only the last Ping needs an answer (RFC 6455, section 5.5.3)
			f.free()
		}
	case opPong:
		f.free()
	case opClose:
		status, err := f.closeStatus()
		f.free()
		if err != nil {
			return err
		}
		t.setStatus(status)
		if t.lockSoon() {
			t.writeCloseLocked()
			t.mu.Unlock()
		}
		return io.EOF
	}
	return nil
}

// answerPing writes the pending Pong, if any, for the goroutine that reads, which must not wait.
func (t *webSocketTransport) answerPing() {
	switch {
	case t.pong.Load() == nil:
	case t.writeWaits:
		go t.writePong() // ends when the connection has accepted the Pong, or is closed
	default:
		t.writePong()
	}
}

// writePong writes the pending Pong, if any, unless another goroutine writes: that one calls
// writePong afterwards. If the connection accepts no data, the Pong stays for the next write or
// read.
func (t *webSocketTransport) writePong() {
	for written := true; written && t.pong.Load() != nil && t.mu.TryLock(); {
		written = t.tryWritePong()
		t.mu.Unlock()
	}
}

// tryWritePong writes the pending Pong, with mu held, and reports whether it was written.
func (t *webSocketTransport) tryWritePong() bool {
	o := t.out
	var pong *controlFrame
	switch {
	case t.closed || o != nil && o.isInMessage():
		return false
	case o == nil: // otherwise the rest of another control frame comes first
		o = newWSOutput()
		pong = t.addPong(o)
	}
	_, taken, err := t.pass(o, false)
	t.releasePong(pong, taken)
	t.keep(o, err)
	return taken && t.out == nil
}

// addPong moves the pending Pong to o and returns it: releasePong must follow. It is called with
// mu held.
func (t *webSocketTransport) addPong(o *wsOutput) *controlFrame {
	pong := t.pong.Swap(nil)
	if pong != nil {
		o.addControl(pong.wire())
	}
	return pong
}

// releasePong releases a Pong whose bytes a write has taken. Otherwise the Pong is pending again,
// unless there is a later one.
func (t *webSocketTransport) releasePong(pong *controlFrame, taken bool) {
	if pong != nil && (taken || !t.pong.CompareAndSwap(nil, pong)) {
		pong.free()
	}
}

// lockSoon locks mu and reports whether it has: not if a write holds mu for closeFrameTimeout. A
// write whose last bytes have reached the client can still hold mu when the answer of the client
// comes, until its goroutine runs again. A write that waits for the client goes on: a deadline that
// ends it would lose what the client may still read.
func (t *webSocketTransport) lockSoon() bool {
	for pause := 10 * time.Microsecond; pause < closeFrameTimeout; pause *= 2 {
		if t.mu.TryLock() {
			return true
		}
		time.Sleep(pause) // the sum of all pauses is below 2 * closeFrameTimeout
	}
	return t.mu.TryLock()
}

// writeClose writes a close frame, unless another goroutine writes.
func (t *webSocketTransport) writeClose() {
	if t.mu.TryLock() {
		t.writeCloseLocked()
		t.mu.Unlock()
	}
}

// writeCloseLocked writes a close frame, with mu held, if the connection accepts it at once and no
// message is unfinished: the peer would take the close frame for a part of that message.
func (t *webSocketTransport) writeCloseLocked() {
	o := t.out
	switch {
	case t.closed || o != nil && o.isInMessage():
		return
	case o == nil:
		o = newWSOutput()
	}
	if t.writeWaits {
		_ = t.Conn().SetWriteDeadline(time.Now().Add(closeFrameTimeout)) // fails only on a closed connection
	}
	status := CloseStatus(t.status.Load())
	if status == 0 {
		status = StatusNormal
	}
	o.addControl(appendCloseFrame(make([]byte, 0, 4), status))
	_, taken, err := t.pass(o, false)
	t.keep(o, err)
	t.closed = t.closed || taken
}
