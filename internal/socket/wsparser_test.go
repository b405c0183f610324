package socket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gobwas/ws"
)

// parseAll passes the chunks of a stream to a parser and returns what it returns, with a copy of
// each control frame.
func parseAll(w *wsParser, chunks [][]byte) (data []byte, controls [][]byte, err error) {
	for _, chunk := range chunks {
		for p := bytes.Clone(chunk); len(p) > 0; {
			part, taken, control, err := w.next(p)
			data = append(data, part...)
			if control != nil {
				controls = append(controls, bytes.Clone(control.wire()))
				control.free()
			}
			if err != nil {
				return data, controls, err
			}
			p = p[taken:]
		}
	}
	return data, controls, nil
}

// wsCase is a stream of a client with the payload of its messages.
type wsCase struct {
	name   string
	stream []byte
	want   string
}

var wsCases = []wsCase{
	{"one message", clientFrame(ws.OpBinary, true, []byte("hello")), "hello"},
	{"an empty message", clientFrame(ws.OpBinary, true, nil), ""},
	{"fragments", slices.Concat(
		clientFrame(ws.OpBinary, false, []byte("he")), clientFrame(ws.OpContinuation, false, []byte("ll")), clientFrame(ws.OpContinuation, true, []byte("o"))), "hello"},
	{"empty fragments", slices.Concat(
		clientFrame(ws.OpBinary, false, nil), clientFrame(ws.OpContinuation, false, nil), clientFrame(ws.OpContinuation, false, []byte("x")),
		clientFrame(ws.OpContinuation, true, nil), clientFrame(ws.OpBinary, true, []byte("y"))), "xy"},
	{"control frames between fragments", slices.Concat(
		clientFrame(ws.OpPing, true, nil), clientFrame(ws.OpBinary, false, []byte("a")), clientFrame(ws.OpPing, true, []byte("p")), clientFrame(ws.OpPong, true, nil),
		clientFrame(ws.OpContinuation, false, []byte("b")), clientFrame(ws.OpPing, true, make([]byte, 125)), clientFrame(ws.OpContinuation, true, []byte("c"))), "abc"},
	{"two bytes of length", clientFrame(ws.OpBinary, true, bytes.Repeat([]byte("z"), 126)), string(bytes.Repeat([]byte("z"), 126))},
	{"eight bytes of length", slices.Concat(clientFrame(ws.OpBinary, true, make([]byte, 1<<16)), clientFrame(ws.OpPing, true, nil)), string(make([]byte, 1<<16))},
}

// cutsOf returns every cut of a stream in two, and the stream byte by byte. In long streams, only
// cuts near the ends are made.
func cutsOf(stream []byte) (cuts [][][]byte) {
	for cut := range len(stream) {
		if cut < 300 || cut > len(stream)-300 {
			cuts = append(cuts, [][]byte{stream[:cut], stream[cut:]})
		}
	}
	return append(cuts, chunks(stream, 1))
}

func TestWSParser_EveryCut(t *testing.T) {
	for _, test := range wsCases {
		t.Run(test.name, func(t *testing.T) {
			_, wantControls, _ := parseAll(new(wsParser), [][]byte{test.stream})
			for _, cut := range cutsOf(test.stream) {
				w := new(wsParser)
				data, controls, err := parseAll(w, cut)
				if err != nil || string(data) != test.want || w.inMessage() || !slices.EqualFunc(controls, wantControls, bytes.Equal) {
					t.Fatalf("cut at %d: %d bytes, %d control frames, %v", len(cut[0]), len(data), len(controls), err)
				}
			}
		})
	}
}

// TestWSParser_EveryPrefix checks that a part of a stream is no error, and is known to be a part.
func TestWSParser_EveryPrefix(t *testing.T) {
	for _, test := range wsCases {
		for n := range min(len(test.stream), 300) {
			w := new(wsParser)
			data, _, err := parseAll(w, [][]byte{test.stream[:n]})
			if err != nil || string(data) != test.want[:len(data)] {
				t.Errorf("%s, %d bytes: %q, %v", test.name, n, data, err)
			}
			_, _, err = readByLibrary(test.stream[:n])
			if whole := err == io.EOF; w.inMessage() == whole {
				t.Errorf("%s, %d bytes: in a message: %v, the library: %v", test.name, n, w.inMessage(), err)
			}
		}
	}
}

var errClosedByLibrary = errors.New("close frame")

// readByLibrary reads a stream of a client by gobwas/ws. The error is errClosedByLibrary behind a
// close frame, io.EOF for a stream that ends between two messages, and io.ErrUnexpectedEOF within
// one.
func readByLibrary(stream []byte) (data []byte, controls [][]byte, err error) {
	in, state := bytes.NewReader(stream), ws.StateServerSide
	for {
		before := in.Len()
		h, err := ws.ReadHeader(in)
		if err == io.EOF && before == 0 && !state.Fragmented() {
			return data, controls, io.EOF
		}
		if headerErr := checkByLibrary(stream[len(stream)-before:], state); headerErr != nil {
			return data, controls, headerErr
		}
		if err != nil {
			return data, controls, io.ErrUnexpectedEOF
		}
		payload := make([]byte, min(h.Length, int64(in.Len())))
		in.Read(payload)
		ws.Cipher(payload, h.Mask, 0)
		switch {
		case h.OpCode.IsData():
			data = append(data, payload...)
			if state = state.Clear(ws.StateFragmented); !h.Fin {
				state = state.Set(ws.StateFragmented)
			}
		case int64(len(payload)) == h.Length:
			controls = append(controls, append([]byte{finBit | byte(h.OpCode), byte(h.Length)}, payload...))
			if h.OpCode == ws.OpClose {
				return data, controls, errClosedByLibrary
			}
		}
		if int64(len(payload)) < h.Length {
			return data, controls, io.ErrUnexpectedEOF
		}
	}
}

// checkByLibrary checks a header, or the part of it that p holds.
func checkByLibrary(p []byte, state ws.State) error {
	if len(p) < 2 {
		return nil
	}
	// The first two bytes decide about everything but the shortest form of the length.
	start := append([]byte{p[0], p[1]}, make([]byte, 12)...)
	start[9] = 200
	h, err := ws.ReadHeader(bytes.NewReader(start))
	if err != nil {
		return err
	}
	if h.OpCode.IsControl() && p[1]&lengthBit > 125 {
		h.Length = 126
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return err
	}
	if h.OpCode == ws.OpText {
		return errText
	}
	if size := map[byte]int{length16: 8, length64: 14}[p[1]&lengthBit]; size > 0 && len(p) >= size {
		h, err := ws.ReadHeader(bytes.NewReader(p))
		if err != nil {
			return err
		}
		if ws.HeaderSize(h) != size {
			return errLength
		}
	}
	return nil
}

// TestWSParser_CheckStart_AsLibrary compares all first two bytes with gobwas/ws.
func TestWSParser_CheckStart_AsLibrary(t *testing.T) {
	valid := 0
	for i := range 1 << 17 {
		w := wsParser{headerLen: 2, fragmented: i>>16 == 1}
		w.header[0], w.header[1] = byte(i>>8), byte(i)
		state := ws.StateServerSide
		if w.fragmented {
			state = state.Set(ws.StateFragmented)
		}
		err, want := w.checkStart(), checkByLibrary(w.header[:2], state)
		if (err == nil) != (want == nil) {
			t.Fatalf("% x, fragmented %v: %v, the library: %v", w.header[:2], w.fragmented, err, want)
		}
		if err == nil {
			valid++
		}
	}
	if want := 2*3*126 + 2*128 + 2*128; valid != want { // control frames; binary messages; continuations
		t.Errorf("%d starts are valid, want %d", valid, want)
	}
}

func TestWSParser_Violations(t *testing.T) {
	begin := clientFrame(ws.OpBinary, false, []byte("ok"))
	for _, test := range []struct {
		name   string
		stream []byte
		want   *WebSocketError
		status CloseStatus
	}{
		{"no mask", []byte{0x82, 1, 'x'}, errNotMasked, 1002},
		{"no mask of an empty frame", []byte{0x82, 0}, errNotMasked, 1002},
		{"first reserved bit", []byte{0xc2, 0x80}, errReservedBits, 1002},
		{"second reserved bit", []byte{0xa2, 0x80}, errReservedBits, 1002},
		{"third reserved bit", []byte{0x92, 0x80}, errReservedBits, 1002},
		{"reserved data opcode", []byte{0x83, 0x80}, errReservedOpCode, 1002},
		{"reserved control opcode", []byte{0x8b, 0x80}, errReservedOpCode, 1002},
		{"fragmented Ping", clientFrame(ws.OpPing, false, nil), errControlInParts, 1002},
		{"fragmented close frame", clientFrame(ws.OpClose, false, nil), errControlInParts, 1002},
		{"Ping of 126 bytes", clientFrame(ws.OpPing, true, make([]byte, 126)), errControlTooLong, 1002},
		{"Pong of 65536 bytes", clientFrame(ws.OpPong, true, make([]byte, 1<<16)), errControlTooLong, 1002},
		{"continuation at the start", clientFrame(ws.OpContinuation, true, nil), errNotInMessage, 1002},
		{"continuation after a message", slices.Concat(clientFrame(ws.OpBinary, true, nil), clientFrame(ws.OpContinuation, false, nil)), errNotInMessage, 1002},
		{"message in a message", slices.Concat(begin, clientFrame(ws.OpBinary, true, nil)), errInMessage, 1002},
		{"text in a message", slices.Concat(begin, clientFrame(ws.OpText, true, nil)), errInMessage, 1002},
		{"text", clientFrame(ws.OpText, true, []byte("hello")), errText, 1003},
		{"fragmented text", clientFrame(ws.OpText, false, nil), errText, 1003},
		{"125 in two bytes", []byte{0x82, 0x80 | 126, 0, 125, 1, 2, 3, 4}, errLength, 1002},
		{"65535 in eight bytes", []byte{0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4}, errLength, 1002},
		{"2^63", []byte{0x82, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, errLength, 1002},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, before := range [][]byte{nil, clientFrame(ws.OpPing, true, []byte("x"))} {
				for _, cut := range cutsOf(slices.Concat(before, test.stream)) {
					_, _, err := parseAll(new(wsParser), cut)
					var violation *WebSocketError
					if !errors.As(err, &violation) || violation != test.want || violation.Status != test.status {
						t.Fatalf("cut at %d: %v, want %v", len(cut[0]), err, test.want)
					}
				}
			}
		})
	}
}

func TestWSParser_RandomStreams_AsLibrary(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 1))
		stream := clientStream(frame(4+random.IntN(1<<random.IntN(19))), random)
		want, wantControls, err := readByLibrary(stream)
		if err != io.EOF {
			t.Fatal(err)
		}
		data, controls, err := parseAll(new(wsParser), randomChunks(stream, 1<<random.IntN(18), random))
		if err != nil || !bytes.Equal(data, want) || !slices.EqualFunc(controls, wantControls, bytes.Equal) {
			t.Fatalf("seed %d: %d bytes, want %d; %v", seed, len(data), len(want), err)
		}
	}
}

func TestUnmask_AsLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for n := range 3 * maskBlock {
		p, mask := make([]byte, n), [4]byte{byte(random.Uint32()), byte(random.Uint32()), 3, 4}
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		want := bytes.Clone(p)
		pos := random.IntN(4)
		ws.Cipher(want, mask, pos)
		unmask(p, mask, pos)
		if !bytes.Equal(p, want) {
			t.Fatalf("%d bytes at position %d differ", n, pos)
		}
	}
}

func BenchmarkUnmask(b *testing.B) {
	for _, size := range []int{128, 10 << 10, 64 << 10} {
		p, mask := make([]byte, size), [4]byte{1, 2, 3, 4}
		b.Run(fmt.Sprint("subtle/", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				unmask(p, mask, 1)
			}
		})
		b.Run(fmt.Sprint("gobwas/", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				ws.Cipher(p, mask, 1)
			}
		})
	}
}
