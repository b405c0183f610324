package socket

import (
	"crypto/subtle"
	"encoding/binary"
	"math"
)

// The errors of a wsParser.
var (
	errReservedBits   = &WebSocketError{StatusProtocolError, "reserved bit is set"}
	errReservedOpCode = &WebSocketError{StatusProtocolError, "reserved opcode"}
	errControlInParts = &WebSocketError{StatusProtocolError, "fragmented control frame"}
	errControlTooLong = &WebSocketError{StatusProtocolError, "control frame with more than 125 bytes"}
	errNotMasked      = &WebSocketError{StatusProtocolError, "frame is not masked"}
	errInMessage      = &WebSocketError{StatusProtocolError, "new message before the end of a fragmented message"}
	errNotInMessage   = &WebSocketError{StatusProtocolError, "continuation of no message"}
	errLength         = &WebSocketError{StatusProtocolError, "length is not in its shortest form, or over 2^63-1"}
	errText           = &WebSocketError{StatusUnsupportedData, "text message"}
)

// wsParser takes the WebSocket frames of a client apart, wherever the stream is cut. It works in
// the memory of its caller and keeps only the header of the current frame. The zero value is ready
// for use. After an error, it must not be used any more.
type wsParser struct {
	left       uint64            // bytes of the payload of the current frame that have not arrived
	control    *controlFrame     // the current frame, if it is a control frame
	header     [maxWSHeader]byte // of the current frame, as far as it has arrived
	headerLen  uint8             // bytes of it that have arrived
	inPayload  bool              // the header is whole
	maskPos    uint8             // position of the next byte of the payload, modulo 4
	fragmented bool              // more frames of the current message follow
}

// next takes bytes from the front of p, at least one unless p is empty: from one header, or from
// one payload. data is the unmasked part of p that is payload of a message. control is not nil if
// the bytes have completed a control frame; the caller then owns it.
func (w *wsParser) next(p []byte) (data []byte, taken int, control *controlFrame, err error) {
	if !w.inPayload {
		if taken, err = w.takeHeader(p); err == nil && w.inPayload && w.left == 0 {
			control = w.endFrame()
		}
		return nil, taken, control, err
	}
	taken = int(min(w.left, uint64(len(p))))
	payload := p[:taken]
	unmask(payload, w.mask(), int(w.maskPos))
	w.maskPos = uint8((int(w.maskPos) + taken) % 4)
	w.left -= uint64(taken)
	if w.control != nil {
		w.control.addPayload(payload)
	} else {
		data = payload
	}
	if w.left == 0 {
		control = w.endFrame()
	}
	return data, taken, control, nil
}

// inMessage reports whether the end of the stream would cut a frame or a message.
func (w *wsParser) inMessage() bool { return w.headerLen > 0 || w.fragmented }

// endFrame prepares for the next frame. It returns the current frame if it is a control frame.
func (w *wsParser) endFrame() *controlFrame {
	control := w.control
	w.control, w.inPayload, w.headerLen, w.maskPos = nil, false, 0, 0
	return control
}

// takeHeader takes bytes of a header. It checks the first two bytes as soon as they are there: they
// say how long the header is.
func (w *wsParser) takeHeader(p []byte) (taken int, err error) {
	for {
		size := 2
		if w.headerLen >= 2 {
			size = w.headerSize()
		}
		n := copy(w.header[w.headerLen:size], p[taken:])
		taken += n
		w.headerLen += uint8(n)
		switch {
		case int(w.headerLen) < size:
			return taken, nil
		case size > 2: // a masked frame has a longer header
			return taken, w.startPayload()
		}
		if err := w.checkStart(); err != nil {
			return taken, err
		}
	}
}

func (w *wsParser) opCode() opCode { return opCode(w.header[0] & 0xf) }
func (w *wsParser) isFinal() bool  { return w.header[0]&finBit != 0 }

// headerSize returns the size of the header, whose first two bytes are known.
func (w *wsParser) headerSize() int {
	switch w.header[1] & lengthBit {
	case length16:
		return 2 + 2 + 4
	case length64:
		return 2 + 8 + 4
	}
	return 2 + 4
}

// mask returns the mask, which is at the end of the header.
func (w *wsParser) mask() [4]byte { return [4]byte(w.header[w.headerLen-4:]) }

// checkStart checks the first two bytes of a header.
func (w *wsParser) checkStart() error {
	op := w.opCode()
	switch {
	case w.header[0]&rsvBits != 0:
		return errReservedBits
	case op.isReserved():
		return errReservedOpCode
	case w.header[1]&maskBit == 0:
		return errNotMasked
	case op.isControl() && !w.isFinal():
		return errControlInParts
	case op.isControl() && w.header[1]&lengthBit > maxControlPayload:
		return errControlTooLong
	case op.isControl():
		return nil
	case w.fragmented && op != opContinuation:
		return errInMessage
	case !w.fragmented && op == opContinuation:
		return errNotInMessage
	case op == opText:
		return errText
	}
	return nil
}

// startPayload begins the payload of a frame whose header is whole.
func (w *wsParser) startPayload() error {
	switch n := w.header[1] & lengthBit; n {
	case length16:
		w.left = uint64(binary.BigEndian.Uint16(w.header[2:]))
		if w.left < length16 {
			return errLength
		}
	case length64:
		w.left = binary.BigEndian.Uint64(w.header[2:])
		if w.left <= math.MaxUint16 || w.left > math.MaxInt64 {
			return errLength
		}
	default:
		w.left = uint64(n)
	}
	w.inPayload = true
	if w.opCode().isControl() {
		w.control = newControlFrame(w.opCode())
	} else {
		w.fragmented = !w.isFinal()
	}
	return nil
}

// maskBlock is the number of bytes that unmask passes to subtle.XORBytes at once, and from which
// that is faster than a loop.
const maskBlock = 512

// unmask removes the mask from a part of a payload that begins at pos. XORBytes is written in
// assembler, but needs the mask in as many bytes as it unmasks.
func unmask(p []byte, mask [4]byte, pos int) {
	if pos %= 4; pos > 0 {
		mask = [4]byte{mask[pos], mask[(pos+1)%4], mask[(pos+2)%4], mask[(pos+3)%4]}
	}
	if len(p) >= maskBlock {
		p = unmaskBlocks(p, mask)
	}
	word := uint64(binary.LittleEndian.Uint32(mask[:]))
	word |= word << 32
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^word)
	}
	for i := range p {
		p[i] ^= mask[i%4]
	}
}

// unmaskBlocks unmasks whole blocks and returns the rest.
func unmaskBlocks(p []byte, mask [4]byte) (rest []byte) {
	var block [maskBlock]byte
	for n := copy(block[:], mask[:]); n < len(block); n *= 2 {
		copy(block[n:], block[:n])
	}
	for len(p) >= len(block) {
		p = p[subtle.XORBytes(p, p[:len(block)], block[:]):]
	}
	return p
}
