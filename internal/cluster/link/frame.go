package link

import "encoding/binary"

// A frame on the wire. All integers are unsigned and big-endian, as in package wire. Prefix comes
// before it, and belongs to the caller.
//
//	 0  version     u8   of this layout: frameVersion
//	 1  flags       u8   flagGap, flagAsk; unknown ones are ignored
//	 2  sender      u32  the link that sends the frame; not 0
//	 6  receiver    u32  the link that it is for; 0: its number is not known in this generation
//	10  generation  u64  of both streams; from 1 to maxGeneration
//	18  offset      u64  of the first byte of payload in the sender's stream
//	26  ack         u64  all bytes of the receiver's stream below this offset were received
//	34  sentAt      u64  when the frame is sent, by the sender's Link.Now; not 0
//	42  echo        u64  the latest sentAt that the sender has received; 0: none
//	50  echoDelay   u32  how long ago it was received, in µs
//	54  payload          to the end of the frame; can be empty
//
// A frame without payload acknowledges, begins a generation or keeps the link alive.
const headerSize = 54

const (
	frameVersion = 1

	flagGap = 1 << 0 // bytes from ack on are missing, while later ones have arrived
	flagAsk = 1 << 1 // the receiver is to answer at once
)

const (
	// maxGeneration limits generations, so that adding 1 to a valid one does not overflow.
	maxGeneration = 1 << 62

	// maxOffset limits offsets in a stream, and times in µs, for the same reason.
	maxOffset = 1 << 62
)

// header is a parsed frame without its payload.
type header struct {
	flags            byte
	sender, receiver uint32
	generation       uint64
	offset, ack      uint64
	sentAt, echo     int64
	echoDelay        uint32
}

// appendHeader appends the encoded header to p.
func appendHeader(p []byte, h *header) []byte {
	p = append(p, frameVersion, h.flags)
	p = binary.BigEndian.AppendUint32(p, h.sender)
	p = binary.BigEndian.AppendUint32(p, h.receiver)
	p = binary.BigEndian.AppendUint64(p, h.generation)
	p = binary.BigEndian.AppendUint64(p, h.offset)
	p = binary.BigEndian.AppendUint64(p, h.ack)
	p = binary.BigEndian.AppendUint64(p, uint64(h.sentAt))
	p = binary.BigEndian.AppendUint64(p, uint64(h.echo))
	return binary.BigEndian.AppendUint32(p, h.echoDelay)
}

// parseFrame parses a frame. payload is a part of frame. ok is false for a frame that no link
// sends, whatever the state of the streams.
func parseFrame(frame []byte) (h header, payload []byte, ok bool) {
	if len(frame) < headerSize || frame[0] != frameVersion {
		return header{}, nil, false
	}
	h = header{
		flags:      frame[1],
		sender:     binary.BigEndian.Uint32(frame[2:]),
		receiver:   binary.BigEndian.Uint32(frame[6:]),
		generation: binary.BigEndian.Uint64(frame[10:]),
		offset:     binary.BigEndian.Uint64(frame[18:]),
		ack:        binary.BigEndian.Uint64(frame[26:]),
		sentAt:     int64(binary.BigEndian.Uint64(frame[34:])),
		echo:       int64(binary.BigEndian.Uint64(frame[42:])),
		echoDelay:  binary.BigEndian.Uint32(frame[50:]),
	}
	return h, frame[headerSize:], h.valid()
}

// valid reports whether a link can have sent the header.
func (h *header) valid() bool {
	return h.sender != 0 &&
		h.generation >= 1 && h.generation <= maxGeneration &&
		h.offset <= maxOffset && h.ack <= maxOffset &&
		h.sentAt >= 1 && h.sentAt <= maxOffset && h.echo >= 0 && h.echo <= maxOffset &&
		(h.receiver != 0 || h.ack == 0 && h.echo == 0) // who knows no receiver has received nothing
}
