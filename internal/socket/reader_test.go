package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// readerConfig is the base configuration of the tests of the Reader.
func readerConfig() *Config {
	return &Config{MaxLength: wire.MaxRequestLength(wire.DefaultMaxBody), FrameTimeout: testTimeout, Outbox: outbox.Config{MaxBytes: 1 << 20}, SparesStack: true}
}

// smallStream returns frames of every kind, several of them of minimum size.
func smallStream() []byte {
	b := wire.AppendIdentityRequest(nil)
	b = append(b, 0, 0, 0, 0) // the empty frame
	b = wire.AppendListRequest(b)
	b = wire.AppendRelay(b, []uint64{1, 2, 3}, []byte("hello"))
	b = append(b, 0, 0, 0, 3, 9, 'x', 'y') // a reserved type
	b = append(b, 0, 0, 0, 0)
	return wire.AppendRelay(b, []uint64{7}, nil)
}

// readStepwise reads chunks that are written one by one, each only after the previous chunk
// was handled.
func readStepwise(t *testing.T, tr testTransport, config *Config, chunks [][]byte) ([]testFrame, error) {
	near, far := tr.open(t)
	c := New(near, config, nopHandler{})
	defer c.Close()
	if tr.isPipe { // where each write is one read
		done := writeStream(far, chunks)
		defer func() { far.Close(); <-done }()
		return collect(c, func() {})
	}
	return collect(c, func() {
		if len(chunks) == 0 {
			endWriting(far)
			return
		}
		if _, err := far.Write(chunks[0]); err != nil {
			t.Fatal(err)
		}
		chunks = chunks[1:]
	})
}

// readStream reads chunks that are written as fast as they are accepted.
func readStream(t *testing.T, tr testTransport, config *Config, handler Handler, chunks [][]byte) ([]testFrame, error) {
	near, far := tr.open(t)
	c := New(near, config, handler)
	defer c.Close()
	done := writeStream(far, chunks)
	defer func() { near.Close(); <-done }()
	return collect(c, func() {})
}

func TestReader_SplitAtEveryByte(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		stream, config := smallStream(), readerConfig()
		for cut := 1; cut < len(stream); cut++ {
			frames, err := readStepwise(t, tr, config, [][]byte{stream[:cut], stream[cut:]})
			compareFrames(t, stream, config.MaxLength, frames, err)
			if t.Failed() {
				t.Fatalf("cut at byte %d", cut)
			}
		}
		frames, err := readStepwise(t, tr, config, chunks(stream, 1))
		compareFrames(t, stream, config.MaxLength, frames, err)
	})
}

func TestReader_ManyFramesInOneRead(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		stream, config := bytes.Repeat(smallStream(), 5), readerConfig()
		frames, err := readStepwise(t, tr, config, [][]byte{stream})
		compareFrames(t, stream, config.MaxLength, frames, err)
	})
}

// boundarySizes returns the frame sizes at which the Reader changes its behaviour, and their
// neighbours.
func boundarySizes() (sizes []int) {
	for _, boundary := range []int{wire.HeaderSize + 1, idleBufSize, unchargedSize / 2, unchargedSize, readSize, 1 << 20} {
		for d := -1; d <= 1; d++ {
			sizes = append(sizes, boundary+d)
		}
	}
	return append(sizes, wire.MaxRequestLength(wire.DefaultMaxBody)+wire.LengthSize)
}

func TestReader_FrameSizes(t *testing.T) {
	for _, memory := range []struct {
		name         string
		reads, taken int64
	}{
		{"with memory", 1 << 20, 0},
		{"without memory for reads", readSize, readSize},
		{"with little memory for reads", readSize, readSize / 2},
	} {
		t.Run(memory.name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, tr testTransport) {
				for _, size := range boundarySizes() {
					reads, bodies := newTestBudget(memory.reads), newTestBudget(2<<20)
					if memory.taken > 0 {
						defer reads.account.TryAcquire(int(memory.taken)).Release()
					}
					config := readerConfig()
					config.ReadAccount = reads.account
					stream := slices.Concat(frame(7), frame(size), frame(20))
					for _, cut := range []int{len(stream), 1000 + size/100, 10_001} {
						frames, err := readStream(t, tr, config, testHandler{account: bodies.account}, chunks(stream, cut))
						compareFrames(t, stream, config.MaxLength, frames, err)
					}
					if r, b := used(reads.Budget), used(bodies.Budget); r != memory.taken || b != 0 {
						t.Errorf("%d and %d bytes are in use at the end, want %d and 0", r, b, memory.taken)
					}
					if t.Failed() {
						t.Fatalf("a frame of %d bytes", size)
					}
				}
			})
		})
	}
}

func TestReader_OwnsBuffer_LargeFrames(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for _, test := range []struct {
			size int
			want bool
		}{{5, false}, {unchargedSize, false}, {readSize, false}, {readSize + 1, true}, {1 << 20, true}} {
			frames, err := readStream(t, tr, readerConfig(), nopHandler{}, [][]byte{frame(test.size)})
			if len(frames) != 1 || frames[0].Alone != test.want {
				t.Errorf("a frame of %d bytes: owns its buffer: %v, want %v (%v)", test.size, frames != nil, test.want, err)
			}
		}
	})
}

// TestReader_OwnsBuffer_FrameStartsBuffer checks that a frame starts at the start of the
// buffer that it owns. The hub relies on this to write the header of a delivery in place.
func TestReader_OwnsBuffer_FrameStartsBuffer(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		near, far := tr.open(t)
		want := frame(100_000)
		done := writeStream(far, [][]byte{want})
		c := New(near, readerConfig(), nopHandler{})
		defer c.ReleaseAll()
		for {
			if err := c.Fill(); err != nil {
				t.Fatal(err)
			}
			f, ok, err := readNext(c)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				continue
			}
			if !f.OwnsBuffer || !bytes.Equal(f.Buffer.Bytes()[:len(want)], want) {
				t.Error("a buffer owned by a frame does not start with the frame")
			}
			break
		}
		<-done
	})
}

func TestReader_TooLongHeader(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for _, length := range []uint32{101, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
			bodies := newTestBudget(2 << 20)
			config := readerConfig()
			config.MaxLength = 100
			stream := binary.BigEndian.AppendUint32(frame(wire.LengthSize+100), length)
			for _, cut := range []int{len(stream), len(stream) - 2, 1} {
				near, far := tr.open(t)
				c := New(near, config, testHandler{account: bodies.account})
				go func() { // ends when all is read
					for _, chunk := range chunks(stream, cut) {
						far.Write(chunk)
					}
				}() // the stream does not end: no further byte must be needed
				frames, err := collect(c, func() {})
				compareFrames(t, stream, config.MaxLength, frames, err)
				c.Close()
			}
			if p := peak(bodies.Budget); p != 0 {
				t.Errorf("%d bytes announced: %d were acquired", length, p)
			}
		}
	})
}

func TestReader_EndOfStream(t *testing.T) {
	for _, test := range []struct {
		name   string
		stream []byte
		want   error
	}{
		{"no data", nil, io.EOF},
		{"after a frame", frame(10), io.EOF},
		{"after an empty frame", frame(4), io.EOF},
		{"after a large frame", frame(100_000), io.EOF},
		{"in the length", frame(10)[:2], io.ErrUnexpectedEOF},
		{"behind the length", frame(10)[:4], io.ErrUnexpectedEOF},
		{"before the last byte", frame(10)[:9], io.ErrUnexpectedEOF},
		{"in a second frame", slices.Concat(frame(10), frame(10)[:1]), io.ErrUnexpectedEOF},
		{"in a large frame", frame(100_000)[:50_000], io.ErrUnexpectedEOF},
		{"with a full read buffer", frame(100_000)[:readSize], io.ErrUnexpectedEOF},
		{"in the final memory of a large frame", frame(100_000)[:99_999], io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, tr testTransport) {
				config := readerConfig()
				frames, err := readStream(t, tr, config, nopHandler{}, chunks(test.stream, 30_000))
				compareFrames(t, test.stream, config.MaxLength, frames, err)
				if !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
			})
		})
	}
}

func TestReader_EOFIsSticky(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		near, far := tr.open(t)
		endWriting(far)
		c := New(near, readerConfig(), nopHandler{})
		defer c.ReleaseAll()
		for range 3 {
			if err := c.Fill(); !errors.Is(err, io.EOF) {
				t.Errorf("got %v, want %v", err, io.EOF)
			}
			if _, ok, err := readNext(c); ok || err != nil {
				t.Errorf("a frame after the end: %v, %v", ok, err)
			}
		}
	})
}

func TestReader_ConnectionReset(t *testing.T) {
	near, far := openTCP(t)
	c := New(near, readerConfig(), nopHandler{})
	defer c.ReleaseAll()
	far.(*net.TCPConn).SetLinger(0)
	far.Close()
	if err := c.Fill(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the error of a broken connection", err)
	}
}

func TestReader_BytesRead(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		near, far := tr.open(t)
		stream := slices.Concat(smallStream(), frame(100_000), frame(100)[:50])
		parts, want := chunks(stream, 999), int64(0)
		for _, part := range parts {
			want += tr.wireSize(len(part))
		}
		if tr.webSocket && !tr.isPipe {
			want += tr.wireSize(2) // the close frame
		}
		done := writeStream(far, parts)
		c := New(near, readerConfig(), nopHandler{})
		collect(c, func() {})
		<-done
		if got := c.BytesRead(); got != want {
			t.Errorf("BytesRead is %d, want %d", got, want)
		}
	})
}

func TestReader_Pending(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		near, far := tr.open(t)
		big := frame(readSize + 100)
		stream := slices.Concat(frame(10), frame(20), big[:30])
		c := New(near, readerConfig(), nopHandler{})
		defer c.ReleaseAll()
		go func() { // ends when all is read
			far.Write(stream)
			far.Write(big[30:])
		}()
		if err := c.Fill(); err != nil {
			t.Fatal(err)
		}
		total := c.Pending()
		if !tr.webSocket && int64(total) != c.BytesRead() {
			t.Errorf("%d bytes are pending, want %d", total, c.BytesRead())
		}
		for _, consumed := range []int{10, 30} {
			if _, ok, err := readNext(c); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if got := c.Pending(); got != total-consumed {
				t.Errorf("%d bytes are pending, want %d", got, total-consumed)
			}
		}
		for {
			if err := c.Fill(); err != nil {
				t.Fatal(err)
			}
			if f, ok, _ := readNext(c); ok {
				if got := c.Pending(); !f.OwnsBuffer || got != 0 {
					t.Errorf("after a frame with OwnsBuffer %v, %d bytes are pending, want 0", f.OwnsBuffer, got)
				}
				return
			}
		}
	})
}

// scriptedConn is a connection with scripted reads. Nothing else works.
type scriptedConn struct {
	net.Conn
	reads []scriptedRead
}

func (s *scriptedConn) SetReadDeadline(time.Time) error { return nil }

type scriptedRead struct {
	bytes []byte
	err   error
}

func (s *scriptedConn) Read(p []byte) (int, error) {
	if len(s.reads) == 0 {
		return 0, io.EOF
	}
	r := &s.reads[0]
	n := copy(p, r.bytes)
	if r.bytes = r.bytes[n:]; len(r.bytes) > 0 {
		return n, nil
	}
	err := r.err
	s.reads = s.reads[1:]
	return n, err
}

func TestReader_NetConnReadResults(t *testing.T) {
	cause := errors.New("cable cut")
	for _, test := range []struct {
		name  string
		reads []scriptedRead
		want  error
	}{
		{"bytes together with EOF", []scriptedRead{{frame(10), io.EOF}}, io.EOF},
		{"bytes together with an error", []scriptedRead{{frame(10), cause}, {nil, cause}}, cause},
		{"no bytes and no error", []scriptedRead{{frame(10)[:5], nil}, {nil, nil}, {nil, nil}, {frame(10)[5:], nil}}, io.EOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := New(&scriptedConn{reads: test.reads}, readerConfig(), nopHandler{})
			frames, err := collect(c, func() {})
			if len(frames) != 1 || !errors.Is(err, test.want) {
				t.Errorf("%d frames and %v, want 1 and %v", len(frames), err, test.want)
			}
		})
	}
}

func TestReader_RandomStreams(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for seed := range uint64(12) {
			random := rand.New(rand.NewPCG(seed, 1))
			var stream []byte
			for range 1 + random.IntN(30) {
				size := 4 + random.IntN(1<<(3+random.IntN(16)))
				stream = append(stream, frame(size)...)
			}
			stream = stream[:len(stream)-random.IntN(2)*random.IntN(4)]
			config := readerConfig()
			config.RetainsFrames = seed%2 == 0
			frames, err := readStream(t, tr, config, nopHandler{}, randomChunks(stream, len(stream)/(1+random.IntN(500))+1, random))
			compareFrames(t, stream, config.MaxLength, frames, err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	for _, tr := range transports {
		for _, size := range []int{128, 10 << 10, 1 << 20} {
			b.Run(fmt.Sprint(tr.name, "/", size), func(b *testing.B) {
				near, far := tr.open(b)
				batch := bytes.Repeat(frame(size), max(1, readSize/size))
				done := make(chan struct{})
				go func() { // ends when the connection is closed
					defer close(done)
					for {
						if _, err := far.Write(batch); err != nil {
							return
						}
					}
				}()
				c := New(near, readerConfig(), nopHandler{})
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					for _, ok, _ := readNext(c); !ok; _, ok, _ = readNext(c) {
						if err := c.Fill(); err != nil {
							b.Fatal(err)
						}
					}
				}
				c.ReleaseAll()
				near.Close()
				<-done
			})
		}
	}
}
