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

	"github.com/sechlol/go-message-hub/wire"
)

// readerConfig is what the tests of the Reader start from.
func readerConfig() *Config {
	return &Config{MaxLength: wire.MaxRequest(wire.DefaultMaxBody), FrameTimeout: patience, OutboxBytes: 1 << 20}
}

// smallStream has frames of every kind, several of them the smallest there are.
func smallStream() []byte {
	b := wire.AppendIdentityRequest(nil)
	b = append(b, 0, 0, 0, 0) // the empty frame
	b = wire.AppendListRequest(b)
	b = wire.AppendRelay(b, []uint64{1, 2, 3}, []byte("hello"))
	b = append(b, 0, 0, 0, 3, 9, 'x', 'y') // a reserved type
	b = append(b, 0, 0, 0, 0)
	return wire.AppendRelay(b, []uint64{7}, nil)
}

// readStepwise reads chunks that come one by one, each only when what came before
// is handled.
func readStepwise(t *testing.T, l link, config *Config, chunks [][]byte) ([]got, error) {
	near, far := l.open(t)
	c := New(near, config, nobody{})
	defer c.Close()
	if l.name == pipe.name { // where each write is one read
		done := feed(far, chunks)
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

// read reads chunks that come as fast as they are taken.
func read(t *testing.T, l link, config *Config, owner Owner, chunks [][]byte) ([]got, error) {
	near, far := l.open(t)
	c := New(near, config, owner)
	defer c.Close()
	done := feed(far, chunks)
	defer func() { near.Close(); <-done }()
	return collect(c, func() {})
}

func TestFramesSplitAtEveryByte(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		stream, config := smallStream(), readerConfig()
		for cut := 1; cut < len(stream); cut++ {
			frames, err := readStepwise(t, l, config, [][]byte{stream[:cut], stream[cut:]})
			compare(t, stream, config.MaxLength, frames, err)
			if t.Failed() {
				t.Fatalf("cut at byte %d", cut)
			}
		}
		frames, err := readStepwise(t, l, config, chunks(stream, 1))
		compare(t, stream, config.MaxLength, frames, err)
	})
}

func TestSeveralFramesInOneRead(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		stream, config := bytes.Repeat(smallStream(), 5), readerConfig()
		frames, err := readStepwise(t, l, config, [][]byte{stream})
		compare(t, stream, config.MaxLength, frames, err)
	})
}

// borders are the sizes at which the Reader does something else, and their
// neighbours.
func borders() (sizes []int) {
	for _, border := range []int{wire.HeaderSize + 1, idleSize, smallSize / 2, smallSize, readSize, 1 << 20} {
		for d := -1; d <= 1; d++ {
			sizes = append(sizes, border+d)
		}
	}
	return append(sizes, wire.MaxRequest(wire.DefaultMaxBody)+wire.LengthSize)
}

func TestFramesOfAllSizes(t *testing.T) {
	for _, memory := range []struct {
		name         string
		reads, taken int64
	}{
		{"with memory", 1 << 20, 0},
		{"with none for reads", readSize, readSize},
		{"with little for reads", readSize, readSize / 2},
	} {
		t.Run(memory.name, func(t *testing.T) {
			onLinks(t, func(t *testing.T, l link) {
				for _, size := range borders() {
					reads, bodies := newPurse(memory.reads), newPurse(2<<20)
					if memory.taken > 0 {
						defer reads.account.TryDraw(int(memory.taken)).Release()
					}
					config := readerConfig()
					config.Reads = reads.account
					stream := slices.Concat(frame(7), frame(size), frame(20))
					for _, cut := range []int{len(stream), 1000 + size/100, 10_001} {
						frames, err := read(t, l, config, payer{account: bodies.account}, chunks(stream, cut))
						compare(t, stream, config.MaxLength, frames, err)
					}
					if r, b := used(reads.Budget), used(bodies.Budget); r != memory.taken || b != 0 {
						t.Errorf("%d and %d bytes are drawn at the end, want %d and 0", r, b, memory.taken)
					}
					if t.Failed() {
						t.Fatalf("a frame of %d bytes", size)
					}
				}
			})
		})
	}
}

func TestAloneIsWhatIsLargerThanARead(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		for _, test := range []struct {
			size int
			want bool
		}{{5, false}, {smallSize, false}, {readSize, false}, {readSize + 1, true}, {1 << 20, true}} {
			frames, err := read(t, l, readerConfig(), nobody{}, [][]byte{frame(test.size)})
			if len(frames) != 1 || frames[0].Alone != test.want {
				t.Errorf("a frame of %d bytes: alone in %v, want %v (%v)", test.size, frames != nil, test.want, err)
			}
		}
	})
}

// TestAnAloneFrameStartsItsBuffer holds the promise that the hub writes the header
// of a delivery by.
func TestAnAloneFrameStartsItsBuffer(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		near, far := l.open(t)
		want := frame(100_000)
		done := feed(far, [][]byte{want})
		c := New(near, readerConfig(), nobody{})
		defer c.Drop()
		for {
			if err := c.Fill(); err != nil {
				t.Fatal(err)
			}
			f, ok, err := next(c)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				continue
			}
			if !f.Alone || !bytes.Equal(f.Buffer.Bytes()[:len(want)], want) {
				t.Error("the buffer of a frame alone does not start with it")
			}
			break
		}
		<-done
	})
}

func TestTooLongIsSeenInTheHeader(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		for _, length := range []uint32{101, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
			bodies := newPurse(2 << 20)
			config := readerConfig()
			config.MaxLength = 100
			stream := binary.BigEndian.AppendUint32(frame(wire.LengthSize+100), length)
			for _, cut := range []int{len(stream), len(stream) - 2, 1} {
				near, far := l.open(t)
				c := New(near, config, payer{account: bodies.account})
				go func() { // ends when all is read
					for _, chunk := range chunks(stream, cut) {
						far.Write(chunk)
					}
				}() // and does not end the stream: nothing more must be needed
				frames, err := collect(c, func() {})
				compare(t, stream, config.MaxLength, frames, err)
				c.Close()
			}
			if p := peak(bodies.Budget); p != 0 {
				t.Errorf("%d bytes announced: %d were drawn", length, p)
			}
		}
	})
}

func TestTheEndOfTheStream(t *testing.T) {
	for _, test := range []struct {
		name   string
		stream []byte
		want   error
	}{
		{"nothing came", nil, io.EOF},
		{"after a frame", frame(10), io.EOF},
		{"after an empty frame", frame(4), io.EOF},
		{"after a large frame", frame(100_000), io.EOF},
		{"in the length", frame(10)[:2], io.ErrUnexpectedEOF},
		{"behind the length", frame(10)[:4], io.ErrUnexpectedEOF},
		{"before the last byte", frame(10)[:9], io.ErrUnexpectedEOF},
		{"in a second frame", slices.Concat(frame(10), frame(10)[:1]), io.ErrUnexpectedEOF},
		{"in a large frame", frame(100_000)[:50_000], io.ErrUnexpectedEOF},
		{"with a full read buffer", frame(100_000)[:readSize], io.ErrUnexpectedEOF},
		{"in the own memory of a large frame", frame(100_000)[:99_999], io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			onLinks(t, func(t *testing.T, l link) {
				config := readerConfig()
				frames, err := read(t, l, config, nobody{}, chunks(test.stream, 30_000))
				compare(t, test.stream, config.MaxLength, frames, err)
				if !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
			})
		})
	}
}

func TestTheEndStays(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		near, far := l.open(t)
		endWriting(far)
		c := New(near, readerConfig(), nobody{})
		defer c.Drop()
		for range 3 {
			if err := c.Fill(); !errors.Is(err, io.EOF) {
				t.Errorf("got %v, want %v", err, io.EOF)
			}
			if _, ok, err := next(c); ok || err != nil {
				t.Errorf("a frame behind the end: %v, %v", ok, err)
			}
		}
	})
}

func TestAResetIsAnError(t *testing.T) {
	near, far := openTCP(t)
	c := New(near, readerConfig(), nobody{})
	defer c.Drop()
	far.(*net.TCPConn).SetLinger(0)
	far.Close()
	if err := c.Fill(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the error of a broken connection", err)
	}
}

func TestBroughtCountsEveryByte(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		near, far := l.open(t)
		stream := slices.Concat(smallStream(), frame(100_000), frame(100)[:50])
		done := feed(far, chunks(stream, 999))
		c := New(near, readerConfig(), nobody{})
		collect(c, func() {})
		<-done
		if got := c.Brought(); got != int64(len(stream)) {
			t.Errorf("brought %d bytes, want %d", got, len(stream))
		}
	})
}

func TestPendingIsWhatIsLeftOfTheTurn(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		near, far := l.open(t)
		big := frame(readSize + 100)
		stream := slices.Concat(frame(10), frame(20), big[:30])
		c := New(near, readerConfig(), nobody{})
		defer c.Drop()
		go func() { // ends when all is read
			far.Write(stream)
			far.Write(big[30:])
		}()
		if err := c.Fill(); err != nil {
			t.Fatal(err)
		}
		all := int(c.Brought())
		for _, taken := range []int{10, 30} {
			if _, ok, err := next(c); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if got := c.Pending(); got != all-taken {
				t.Errorf("%d bytes are pending, want %d", got, all-taken)
			}
		}
		for {
			if err := c.Fill(); err != nil {
				t.Fatal(err)
			}
			if f, ok, _ := next(c); ok {
				if got := c.Pending(); !f.Alone || got != 0 {
					t.Errorf("behind a frame that lies alone (%v) %d bytes are pending, want 0", f.Alone, got)
				}
				return
			}
		}
	})
}

// scripted is a connection whose reads are written down. Nothing else works.
type scripted struct {
	net.Conn
	reads []scriptedRead
}

func (s *scripted) SetReadDeadline(time.Time) error { return nil }

type scriptedRead struct {
	bytes []byte
	err   error
}

func (s *scripted) Read(p []byte) (int, error) {
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

func TestReadsThatANetConnMayReturn(t *testing.T) {
	cause := errors.New("cable cut")
	for _, test := range []struct {
		name  string
		reads []scriptedRead
		want  error
	}{
		{"bytes together with the end", []scriptedRead{{frame(10), io.EOF}}, io.EOF},
		{"bytes together with an error", []scriptedRead{{frame(10), cause}, {nil, cause}}, cause},
		{"nothing, without an error", []scriptedRead{{frame(10)[:5], nil}, {nil, nil}, {nil, nil}, {frame(10)[5:], nil}}, io.EOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := New(&scripted{reads: test.reads}, readerConfig(), nobody{})
			frames, err := collect(c, func() {})
			if len(frames) != 1 || !errors.Is(err, test.want) {
				t.Errorf("%d frames and %v, want 1 and %v", len(frames), err, test.want)
			}
		})
	}
}

func TestRandomStreams(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		for seed := range uint64(12) {
			random := rand.New(rand.NewPCG(seed, 1))
			var stream []byte
			for range 1 + random.IntN(30) {
				size := 4 + random.IntN(1<<(3+random.IntN(16)))
				stream = append(stream, frame(size)...)
			}
			stream = stream[:len(stream)-random.IntN(2)*random.IntN(4)]
			config := readerConfig()
			config.Keep = seed%2 == 0
			frames, err := read(t, l, config, nobody{}, randomChunks(stream, len(stream)/(1+random.IntN(500))+1, random))
			compare(t, stream, config.MaxLength, frames, err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	for _, l := range links {
		for _, size := range []int{128, 10 << 10, 1 << 20} {
			b.Run(fmt.Sprint(l.name, "/", size), func(b *testing.B) {
				near, far := l.open(b)
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
				c := New(near, readerConfig(), nobody{})
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					for _, ok, _ := next(c); !ok; _, ok, _ = next(c) {
						if err := c.Fill(); err != nil {
							b.Fatal(err)
						}
					}
				}
				c.Drop()
				near.Close()
				<-done
			})
		}
	}
}
