package socket

import (
	"errors"
	"sync"
)

// minMessage is the size from which no further segment joins a message, in bytes. The header of a
// message costs nothing beside so many bytes, and what is behind the message can still expire
// while the peer accepts no more.
const minMessage = 64 << 10

// errInOutMessage means that a message would begin within another.
var errInOutMessage = errors.New("WebSocket: the message before is not written")

// wsOutput is what a WebSocket writes: messages and control frames in the order in which they go to
// the inner transport, which can accept any part of them. The payload is that of the caller: it is
// not copied. A wsOutput is pooled: a connection that does not write holds none.
type wsOutput struct {
	frames []wsFrame // the frames that the inner transport has not accepted whole
	vector [][]byte  // the bytes that the inner transport was not given
	part   [][]byte  // the part of vector for one write; scratch space
	bytes  []byte    // headers and control frames, to which vector points
	held   int       // bytes that the inner transport was given and holds as pending
}

// wsFrame is the part of a frame that the inner transport has not accepted, in bytes.
type wsFrame struct {
	header  int // or a whole control frame
	payload int
	begun   bool // the inner transport has accepted a part
}

func (f wsFrame) size() int { return f.header + f.payload }

var wsOutputs = sync.Pool{New: func() any {
	return &wsOutput{frames: make([]wsFrame, 0, 4), vector: make([][]byte, 0, 8), bytes: make([]byte, 0, 32)}
}}

func newWSOutput() *wsOutput { return wsOutputs.Get().(*wsOutput) }

// free returns o to the pool. It keeps no payload alive.
func (o *wsOutput) free() {
	clear(o.vector)
	clear(o.part)
	*o = wsOutput{frames: o.frames[:0], vector: o.vector[:0], part: o.part[:0], bytes: o.bytes[:0]}
	wsOutputs.Put(o)
}

// addControl appends a control frame, which is copied.
func (o *wsOutput) addControl(frame []byte) {
	start := len(o.bytes)
	o.bytes = append(o.bytes, frame...) // vector still points to the old bytes if append moves them
	o.vector = append(o.vector, o.bytes[start:])
	o.frames = append(o.frames, wsFrame{header: len(frame)})
}

// addMessages appends the slices of v as binary messages of one frame each. A slice is never cut.
func (o *wsOutput) addMessages(v [][]byte) {
	for len(v) > 0 {
		n, size := 0, 0
		for n < len(v) && size < minMessage {
			size += len(v[n])
			n++
		}
		start := len(o.bytes)
		o.bytes = appendWSHeader(o.bytes, opBinary, size)
		o.vector = append(append(o.vector, o.bytes[start:]), v[:n]...)
		o.frames = append(o.frames, wsFrame{header: len(o.bytes) - start, payload: size})
		v = v[n:]
	}
}

// payload returns the bytes of payload that the inner transport has not accepted.
func (o *wsOutput) payload() (n int) {
	for _, f := range o.frames {
		n += f.payload
	}
	return n
}

// isInMessage reports whether nothing but a part of a message can be written now, or bytes are
// pending in the inner transport.
func (o *wsOutput) isInMessage() bool { return o.held > 0 || o.payload() > 0 }

// next returns the bytes for one write: at most maxBytes unless that is 0.
func (o *wsOutput) next(maxBytes int) [][]byte {
	if maxBytes == 0 {
		return o.vector
	}
	clear(o.part)
	o.part = o.part[:0]
	for _, p := range o.vector {
		p = p[:min(len(p), maxBytes)]
		o.part = append(o.part, p)
		if maxBytes -= len(p); maxBytes == 0 {
			break
		}
	}
	return o.part
}

// written records one write of the inner transport. given says how many of the bytes of vector the
// inner transport took: these are n bytes that it has accepted, and held bytes that it holds as
// pending. written returns the bytes of payload that were accepted.
func (o *wsOutput) written(given, n, held int) (payload int) {
	o.vector = cutFront(o.vector, given)
	o.held = held
	done := 0
	for n > 0 {
		f := &o.frames[done]
		f.begun = true
		h := min(n, f.header)
		p := min(n-h, f.payload)
		f.header, f.payload = f.header-h, f.payload-p
		n, payload = n-h-p, payload+p
		if f.size() == 0 {
			done++
		}
	}
	o.frames = o.frames[:copy(o.frames, o.frames[done:])]
	return payload
}

// dropUnbegun drops the frames of which the inner transport was given nothing. The others must be
// written to their end: the peer has been told how long they are.
func (o *wsOutput) dropUnbegun() {
	n, size := 0, 0
	for n < len(o.frames) && (o.frames[n].begun || size < o.held) {
		size += o.frames[n].size()
		n++
	}
	o.frames = o.frames[:n]
	o.vector = cutBack(o.vector, size-o.held)
}

// heldPayload returns how many of the bytes that the inner transport holds are payload.
func (o *wsOutput) heldPayload() (n int) {
	held := o.held
	for _, f := range o.frames {
		held -= min(held, f.header)
		p := min(held, f.payload)
		n, held = n+p, held-p
	}
	return n
}

// cutFront removes n bytes from the front of a vector, and moves the rest to its start: the memory
// of the vector can then be used again.
func cutFront(v [][]byte, n int) [][]byte {
	i := 0
	for i < len(v) && n >= len(v[i]) {
		n -= len(v[i])
		i++
	}
	if n > 0 {
		v[i] = v[i][n:]
	}
	rest := copy(v, v[i:])
	clear(v[rest:])
	return v[:rest]
}

// cutBack returns the first n bytes of a vector. It keeps no other bytes alive.
func cutBack(v [][]byte, n int) [][]byte {
	i := 0
	for ; n > 0; i++ {
		v[i] = v[i][:min(len(v[i]), n)]
		n -= len(v[i])
	}
	clear(v[i:])
	return v[:i]
}
