package natsconn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"
)

// chunks is a reader that returns at most size bytes at a time.
type chunks struct {
	r    io.Reader
	size int
}

func (c chunks) Read(b []byte) (int, error) { return c.r.Read(b[:min(len(b), c.size)]) }

// readAll returns all operations of an input, in one text, and the error at its end.
func readAll(r io.Reader) (all string, err error) {
	var in input
	in.init(r, testMaxPayload)
	for {
		op, err := in.next()
		if err != nil {
			return all, err
		}
		all += fmt.Sprintf("%d %q %q\n", op.kind, op.text, op.payload)
	}
}

func TestInput_AnyChunks(t *testing.T) {
	var stream, want string
	for range 40 { // more than the buffer holds
		for text, op := range operations {
			stream += text
			if op.kind != kindSkipped {
				want += fmt.Sprintf("%d %q %q\n", op.kind, op.text, op.payload)
			}
		}
	}
	for _, size := range []int{100, 1000, 4096, 65536, len(stream)} {
		if got, err := readAll(chunks{bytes.NewReader([]byte(stream)), size}); got != want || err != io.EOF {
			t.Errorf("in chunks of %d bytes: %d bytes instead of %d, %v", size, len(got), len(want), err)
		}
	}
}

func TestInput_Errors(t *testing.T) {
	failed := errors.New("failed")
	tests := map[string]struct {
		r    io.Reader
		want error
	}{
		"end":                {bytes.NewReader(nil), io.EOF},
		"within a line":      {bytes.NewReader([]byte("PIN")), io.EOF},
		"within a frame":     {bytes.NewReader([]byte("MSG a 1 9\r\n123")), io.EOF},
		"within the skipped": {bytes.NewReader([]byte("MSG a 1 99999\r\n123")), io.EOF},
		"error":              {iotest.ErrReader(failed), failed},
		"nothing is read":    {chunks{bytes.NewReader([]byte("PING\r\n")), 0}, io.ErrNoProgress},
		"nonsense":           {bytes.NewReader([]byte("PING\r\nHTTP/1.1 400 Bad Request\r\n")), errProtocol},
	}
	for name, tt := range tests {
		if _, err := readAll(tt.r); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// repeat is a reader that repeats text for ever.
type repeat struct {
	text []byte
	at   int
}

func (r *repeat) Read(b []byte) (n int, err error) {
	for n < len(b) {
		copied := copy(b[n:], r.text[r.at:])
		n += copied
		r.at = (r.at + copied) % len(r.text)
	}
	return n, nil
}

func TestInput_NextDoesNotAllocate(t *testing.T) {
	const size = 64<<10 - 128
	frame := "MSG hub.hub.to.1 1 " + fmt.Sprint(size) + "\r\n" + pad("x", size) + "\r\nMSG a 1 1\r\nx\r\n"
	var in input
	in.init(&repeat{text: []byte(frame)}, size)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := in.next(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzInput checks that what a server sends is never read beyond its end, and that it does not
// matter in which pieces it comes.
func FuzzInput(f *testing.F) {
	for text := range operations {
		if len(text) < 10<<10 {
			f.Add([]byte(text+"PING\r\n"), uint8(3))
		}
	}
	f.Add([]byte("MSG a 1 67108864\r\nx"), uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		whole, wholeErr := readAll(bytes.NewReader(stream))
		parts, partsErr := readAll(chunks{bytes.NewReader(stream), int(size) + 1})
		if whole != parts || fmt.Sprint(wholeErr) != fmt.Sprint(partsErr) {
			t.Errorf("in one piece %q, %v; in pieces of %d bytes %q, %v", whole, wholeErr, size+1, parts, partsErr)
		}
	})
}
