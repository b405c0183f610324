package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

func TestSize(t *testing.T) {
	tests := []struct {
		name  string
		bytes []byte
		limit int
		want  int
		err   error
	}{
		{"nothing", nil, 10, 0, nil},
		{"three bytes", []byte{0, 0, 0}, 10, 0, nil},
		{"the empty frame", []byte{0, 0, 0, 0}, 10, 4, nil},
		{"the empty frame, nothing allowed", []byte{0, 0, 0, 0}, 0, 4, nil},
		{"only the type", []byte{0, 0, 0, 1, 9}, 10, 5, nil},
		{"more than the frame", []byte{0, 0, 0, 1, 9, 8, 7}, 10, 5, nil},
		{"at the limit", []byte{0, 0, 0, 10}, 10, 14, nil},
		{"one above the limit", []byte{0, 0, 0, 11}, 10, 0, wire.ErrTooLong},
		{"2 GiB", []byte{0x80, 0, 0, 0}, defaultMaxLength, 0, wire.ErrTooLong},
		{"the largest length field", []byte{255, 255, 255, 255}, defaultMaxLength, 0, wire.ErrTooLong},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := wire.Size(tt.bytes, tt.limit)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("Size = %d, %v, want %d, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestSize_ErrorText(t *testing.T) {
	_, err := wire.Size([]byte{0, 0, 1, 0}, 100)
	const want = "frame too long: 256 bytes announced, 100 allowed"
	if err == nil || err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

// TestMaxRequestLength checks that Size accepts the largest SEND that the defaults allow, and
// rejects a SEND with one more byte.
func TestMaxRequestLength(t *testing.T) {
	to := make([]uint64, wire.MaxReceivers)
	largest := wire.AppendSend(nil, 1, 0, 0, to, make([]byte, wire.DefaultMaxBody))
	if size, err := wire.Size(largest, defaultMaxLength); err != nil || size != len(largest) {
		t.Errorf("largest SEND of %d bytes: Size = %d, %v", len(largest), size, err)
	}
	larger := wire.AppendSend(nil, 1, 0, 0, to, make([]byte, wire.DefaultMaxBody+1))
	if _, err := wire.Size(larger, defaultMaxLength); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("one byte more: %v, want %v", err, wire.ErrTooLong)
	}
}

// TestMaxBodyLimit_HasLength checks that the length field of a RELAY with the largest body
// does not wrap around.
func TestMaxBodyLimit_HasLength(t *testing.T) {
	limit := wire.MaxRequestLength(wire.MaxBodyLimit)
	if limit > math.MaxInt32-wire.LengthSize {
		t.Fatalf("a frame of %d bytes has no size on a 32-bit machine", limit)
	}
	header := wire.AppendRelayHeader(nil, make([]uint64, wire.MaxReceivers), wire.MaxBodyLimit)
	if size, err := wire.Size(header, limit); err != nil || size != wire.RelayLen(wire.MaxReceivers, wire.MaxBodyLimit) {
		t.Errorf("Size = %d, %v", size, err)
	}
}

func TestSplit_ShorterThanHeader(t *testing.T) {
	for n := range wire.HeaderSize {
		kind, payload := wire.Split(make([]byte, n))
		if kind != 0 || payload != nil {
			t.Errorf("%d bytes: type %d, payload %x", n, kind, payload)
		}
	}
}

func TestFrames_Consecutive(t *testing.T) {
	var stream []byte
	for i, s := range exampleFrames() {
		stream = append(stream, s.frame...)
		if frames, n := countFrames(stream); frames != i+1 || n != len(stream) {
			t.Errorf("after %s: %d frames, %d bytes, want %d, %d", s.name, frames, n, i+1, len(stream))
		}
	}
	end := len(stream)
	for _, tail := range [][]byte{{0}, {0, 0, 0}, {0, 0, 0, 2, 3}, {0x7f, 0xff, 0xff, 0xff, 1}, {255, 255, 255, 255, 1}} {
		if frames, n := countFrames(append(stream[:end:end], tail...)); frames != len(exampleFrames()) || n != end {
			t.Errorf("followed by %x: %d frames, %d bytes, want %d, %d", tail, frames, n, len(exampleFrames()), end)
		}
	}
	if frames, n := countFrames(make([]byte, 3*wire.LengthSize)); frames != 3 || n != 3*wire.LengthSize {
		t.Errorf("empty frames: %d frames, %d bytes", frames, n)
	}
}

func TestHeaderPath_AllocatesNothing(t *testing.T) {
	frame := wire.AppendRelay(nil, []uint64{2, 3}, []byte("foobar"))
	stream := bytes.Repeat(frame, 8)
	_, payload := wire.Split(frame)
	to, buffer := []uint64{2, 3}, make([]byte, 0, 1024)

	wantNoAllocs(t, "Size", func() { _, _ = wire.Size(frame, defaultMaxLength) })
	wantNoAllocs(t, "Split", func() { wire.Split(frame) })
	wantNoAllocs(t, "Frames", func() { countFrames(stream) })
	wantNoAllocs(t, "ParseRelay", func() {
		relay, err := wire.ParseRelay(payload)
		if err != nil {
			t.Fatal(err)
		}
		for range relay.To.All() {
		}
	})
	wantNoAllocs(t, "ParseIdentity", func() { _, _ = wire.ParseIdentity(payload[:wire.IDSize]) })
	wantNoAllocs(t, "ParseList", func() { _, _ = wire.ParseList(payload[:wire.IDSize]) })
	wantNoAllocs(t, "AppendRelayHeader", func() { wire.AppendRelayHeader(buffer, to, 6) })
	wantNoAllocs(t, "AppendIdentity", func() { wire.AppendIdentity(buffer, 7) })
	wantNoAllocs(t, "AppendList", func() { wire.AppendList(buffer, to, to) })
	wantNoAllocs(t, "AppendRelayDelivery", func() { wire.AppendRelayDelivery(buffer, payload) })
	wantNoAllocs(t, "PutRelayDeliveryHeader", func() { wire.PutRelayDeliveryHeader(buffer[:wire.HeaderSize], 6) })
	wantNoAllocs(t, "IDs.AppendTo", func() { wire.IDs(payload[1 : 1+2*wire.IDSize]).AppendTo(to[:0]) })
}

// FuzzSize checks Size and Frames, the two functions that read bytes before any check.
func FuzzSize(f *testing.F) {
	var stream []byte
	for _, s := range exampleFrames() {
		f.Add(s.frame, defaultMaxLength)
		stream = append(stream, s.frame...)
	}
	f.Add(stream, defaultMaxLength)
	f.Add([]byte{255, 255, 255, 255}, wire.MaxRequestLength(wire.MaxBodyLimit))
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		limit = min(max(limit, 0), wire.MaxRequestLength(wire.MaxBodyLimit))
		wantMaxAlloc(t, 0, func() { checkSize(t, b, limit) })
		wantMaxAlloc(t, 0, func() { checkFrames(t, b) })
	})
}

// checkSize compares Size with the length field.
func checkSize(t *testing.T, b []byte, limit int) {
	size, err := wire.Size(b, limit)
	if len(b) < wire.LengthSize {
		if size != 0 || err != nil {
			t.Fatalf("Size = %d, %v for %d bytes", size, err, len(b))
		}
		return
	}
	announced := uint64(binary.BigEndian.Uint32(b))
	if tooLong := announced > uint64(limit); tooLong != errors.Is(err, wire.ErrTooLong) || (err != nil) != tooLong {
		t.Fatalf("%d announced, %d allowed: %v", announced, limit, err)
	}
	if err == nil && uint64(size) != wire.LengthSize+announced {
		t.Fatalf("%d announced: Size = %d", announced, size)
	}
}

// checkFrames checks that Size finds the same frames as Frames, and that no whole frame follows
// them.
func checkFrames(t *testing.T, b []byte) {
	frames, n := countFrames(b)
	if n < 0 || n > len(b) {
		t.Fatalf("Frames = %d bytes of %d", n, len(b))
	}
	remaining := b[:n]
	for range frames {
		size, err := wire.Size(remaining, wire.MaxRequestLength(wire.MaxBodyLimit))
		if err != nil || size < wire.LengthSize || size > len(remaining) {
			t.Fatalf("Frames yields a frame of %d bytes, %d are left: %v", size, len(remaining), err)
		}
		remaining = remaining[size:]
	}
	if len(remaining) != 0 {
		t.Fatalf("%d bytes after %d frames", len(remaining), frames)
	}
	if size, err := wire.Size(b[n:], wire.MaxRequestLength(wire.MaxBodyLimit)); err == nil && size != 0 && size <= len(b)-n {
		t.Fatalf("Frames does not yield a whole frame of %d bytes", size)
	}
}

func BenchmarkSize(b *testing.B) {
	frame := wire.AppendRelay(nil, []uint64{2, 3}, []byte("foobar"))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = wire.Size(frame, defaultMaxLength)
	}
}

// BenchmarkFrames iterates over a read buffer full of small frames, as a reader does after each
// read.
func BenchmarkFrames(b *testing.B) {
	stream := bytes.Repeat(wire.AppendRelay(nil, []uint64{2}, make([]byte, 128)), 256)
	b.ReportAllocs()
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		countFrames(stream)
	}
}
