package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// bench is a Reader with its budgets, and the other end of its connection.
type bench struct {
	*Conn
	reads, bodies purse
	far           net.Conn
	stop          chan struct{}
	write         func(...[]byte) // to the other end
	ended         chan error      // gets the error that ended serve
	handle        func(Frame)     // what serve does with a frame; nil: nothing
}

func newBench(t testing.TB, l link, config *Config) *bench {
	near, far := l.open(t)
	b := &bench{far: far, reads: newPurse(1 << 20), bodies: newPurse(4 << 20), stop: make(chan struct{}), ended: make(chan error, 1)}
	config.Reads = b.reads.account
	b.Conn = New(near, config, payer{b.bodies.account, b.stop})
	b.write = func(parts ...[]byte) {
		for _, p := range parts {
			if _, err := far.Write(p); err != nil {
				t.Error(err)
			}
		}
	}
	return b
}

// serve reads in a goroutine of its own, as an owner does.
func (b *bench) serve() {
	go func() { // ends with the connection
		err := b.handleAll()
		b.Drop()
		b.ended <- err
	}()
}

func (b *bench) handleAll() error {
	for {
		if err := b.Fill(); err != nil {
			return err
		}
		for {
			f, ok, err := next(b.Conn)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if b.handle != nil {
				b.handle(f)
			}
		}
	}
}

// end closes the connection and waits for the reading to end.
func (b *bench) end(t testing.TB) {
	b.Close()
	within(t, "the end of the reading", b.ended)
	if r, p := used(b.reads.Budget), used(b.bodies.Budget); r != 0 || p != 0 {
		t.Errorf("%d and %d bytes are drawn after Drop", r, p)
	}
}

func TestAnIdleReaderHoldsNothing(t *testing.T) {
	b := newBench(t, tcp, readerConfig())
	b.serve()
	big := frame(200_000)
	for _, part := range [][]byte{nil, smallStream(), big, slices.Concat(big, frame(10))} {
		before := b.Brought()
		b.write(part)
		until(t, "all is read", func() bool { return b.Brought() == before+int64(len(part)) })
		until(t, "all is given back", func() bool { return used(b.reads.Budget) == 0 && used(b.bodies.Budget) == 0 })
	}
	b.end(t)
}

func TestAnIdleReaderOfAPipeHoldsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, pipe, readerConfig())
		b.serve()
		for _, part := range [][]byte{nil, smallStream(), frame(200_000), frame(10)} {
			b.write(part)
			synctest.Wait()
			if r, p := used(b.reads.Budget), used(b.bodies.Budget); r > readSize || p != 0 || len(part) < idleSize && r > idleSize {
				t.Errorf("%d and %d bytes are drawn between two frames", r, p)
			}
		}
		b.end(t)
	})
}

// TestAnnouncingCostsNothing sends the header of a large frame and less than a
// read buffer of it: nothing may be drawn that others could wait for.
func TestAnnouncingCostsNothing(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		b := newBench(t, l, readerConfig())
		b.serve()
		big := frame(1 << 20)
		for _, part := range [][]byte{big[:4], big[4:1000], big[1000:60_000], big[60_000 : readSize-1]} {
			before := b.Brought()
			b.write(part)
			until(t, "all is read", func() bool { return b.Brought() == before+int64(len(part)) })
		}
		if p := peak(b.bodies.Budget); p != 0 {
			t.Errorf("%d bytes were drawn before a read buffer was full", p)
		}
		b.write(big[readSize-1 : readSize+1])
		until(t, "the memory is drawn", func() bool { return used(b.bodies.Budget) == int64(body.Capacity(len(big))) })
		until(t, "the read buffer is given back", func() bool { return used(b.reads.Budget) == 0 })
		b.write(big[readSize+1:])
		until(t, "the memory is given back", func() bool { return used(b.bodies.Budget) == 0 })
		b.end(t)
	})
}

// TestAnUnfinishedFrameKeepsWhatItHas looks at what a connection holds in the
// middle of a frame.
func TestAnUnfinishedFrameKeepsWhatItHas(t *testing.T) {
	for _, test := range []struct {
		have int
		want int64 // charged
	}{
		{1, 0}, {100, 0}, {smallSize, 0}, // on the house
		{smallSize + 1, int64(body.Capacity(smallSize + 1))},
		{40_000, int64(body.Capacity(40_000))},
	} {
		b := newBench(t, tcp, readerConfig())
		b.serve()
		b.write(frame(100_000)[:test.have])
		until(t, "all is read", func() bool { return b.Brought() == int64(test.have) })
		until(t, "no more is held than must be", func() bool { return used(b.reads.Budget) == test.want })
		if _, holds := b.Holding(); holds {
			t.Errorf("%d bytes of a frame: holds what others wait for", test.have)
		}
		b.end(t)
	}
}

func TestALargeFrameWaitsForItsMemory(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		b := newBench(t, l, readerConfig())
		other := b.bodies.Budget.Account(4 << 20).TryDraw(4 << 20)
		frames := make(chan int, 2)
		b.handle = func(f Frame) { frames <- len(f.Payload) }
		b.serve()
		go b.write(frame(10), frame(100_000)) // ends when all is read
		within(t, "somebody waits", b.bodies.Pressed())
		within(t, "the small frame before it", frames)
		if _, holds := b.Holding(); holds {
			t.Error("one who waits for memory holds some")
		}
		other.Release()
		if got := within(t, "the large frame", frames); got != 100_000-wire.HeaderSize {
			t.Errorf("%d bytes of payload", got)
		}
		b.end(t)
	})
}

func TestStopEndsTheWaitForMemory(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		b := newBench(t, l, readerConfig())
		other := b.bodies.Budget.Account(4 << 20).TryDraw(4 << 20)
		b.serve()
		b.write(frame(100_000)[:readSize])
		within(t, "somebody waits", b.bodies.Pressed())
		close(b.stop)
		if err := within(t, "the end", b.ended); !errors.Is(err, body.ErrStopped) {
			t.Errorf("got %v, want %v", err, body.ErrStopped)
		}
		other.Release()
		if r, p := used(b.reads.Budget), used(b.bodies.Budget); r != 0 || p != 0 {
			t.Errorf("%d and %d bytes are drawn after Drop", r, p)
		}
	})
}

// TestReader_InterruptEndsWaitForMemory of a frame, and of what is stowed.
func TestReader_InterruptEndsWaitForMemory(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		for _, stow := range []bool{false, true} {
			if stow && l.name == pipe.name { // of which so little is read that it is not charged
				continue
			}
			b := newBench(t, l, readerConfig())
			other := b.bodies.Budget.Account(4 << 20).TryDraw(4 << 20)
			say := frame(100_000)[:readSize]
			if stow {
				say = bytes.Repeat(slices.Concat(frame(50), frame(20_000)), 3)
				b.handle = func(Frame) {
					if err := b.Stow(); err != nil && !errors.Is(err, ErrInterrupted) {
						t.Errorf("Stow: %v, want %v", err, ErrInterrupted)
					}
				}
			}
			if stow {
				b.write(say) // before it is read: a read that brings little leaves nothing to wait for
				b.serve()
			} else {
				b.serve()
				b.write(say)
			}
			within(t, "somebody waits", b.bodies.Pressed())
			b.Interrupt()
			if err := within(t, "the end", b.ended); !errors.Is(err, ErrInterrupted) {
				t.Errorf("got %v, want %v", err, ErrInterrupted)
			}
			other.Release()
		}
	})
}

// TestAFinishedFrameIsNotHeld has the owner look at Holding while it handles a
// frame whose start was held: the peer owes nothing any more, however long the
// handling takes.
func TestAFinishedFrameIsNotHeld(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		b := newBench(t, l, readerConfig())
		held := make(chan bool, 1)
		b.handle = func(Frame) {
			_, holds := b.Holding()
			held <- holds
		}
		b.serve()
		f := frame(100_000)
		b.write(f[:len(f)-1])
		until(t, "the start is held", func() bool { _, holds := b.Holding(); return holds })
		b.write(f[len(f)-1:])
		if within(t, "the frame", held) {
			t.Error("the start of a whole frame counts as held")
		}
		b.end(t)
	})
}

// TestHoldingBeginsWithTheFrame sees to it that the time for which one frame was
// held is not put on the account of the next.
func TestHoldingBeginsWithTheFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, pipe, readerConfig())
		b.serve()
		f := frame(100_000)
		b.write(f[:80_000])
		pass(time.Second)
		begin := time.Now()
		b.write(slices.Concat(f[80_000:], f[:80_000]))
		synctest.Wait()
		if since, holds := b.Holding(); !holds || since.Before(begin) {
			t.Errorf("held since %v before the frame began (%v)", begin.Sub(since), holds)
		}
		b.end(t)
	})
}

// TestKeptFramesStay retains every frame beyond many turns.
func TestKeptFramesStay(t *testing.T) {
	for _, memory := range []struct {
		name  string
		limit int64 // of what is there for reads
	}{
		{"nobody is charged", 0},
		{"one read buffer", readSize},
		{"two read buffers", 2 * readSize},
	} {
		t.Run(memory.name, func(t *testing.T) {
			onLinks(t, func(t *testing.T, l link) {
				for _, cut := range []int{36_000, 60_001, 500} {
					config := readerConfig()
					config.Keep = true
					if memory.limit > 0 {
						config.Reads = newPurse(memory.limit).account
					}
					near, far := l.open(t)
					stream := slices.Concat(frame(30_000), frame(10_000))
					for i := range 200 {
						stream = append(stream, frame(10+i*i%9000)...)
					}
					done := feed(far, chunks(stream, cut))
					frames, kept := keepAll(t, New(near, config, nobody{}))
					<-done
					compareKept(t, frames, stream)
					if kept > 4*len(stream) {
						t.Errorf("frames of %d bytes keep %d", len(stream), kept)
					}
				}
			})
		})
	}
}

func compareKept(t *testing.T, frames []Frame, stream []byte) {
	t.Helper()
	want, _ := parse(stream, wire.DefaultMaxBody)
	if len(frames) != len(want) {
		t.Errorf("%d frames, want %d", len(frames), len(want))
	}
	for i, f := range frames {
		if _, payload := wire.Split(want[i]); !bytes.Equal(f.Payload, payload) {
			t.Errorf("frame %d of %d bytes changed while it was kept", i, len(payload))
		}
		f.Buffer.Release()
	}
}

// keepAll retains all frames and returns how much memory they keep.
func keepAll(t *testing.T, c *Conn) (frames []Frame, kept int) {
	defer c.Drop()
	seen := map[*body.Buffer]bool{}
	for {
		if err := c.Fill(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			return frames, kept
		}
		for f, ok, err := next(c); ok || err != nil; f, ok, err = next(c) {
			if err != nil {
				t.Fatal(err)
			}
			f.Buffer.Retain()
			if !seen[f.Buffer] {
				seen[f.Buffer] = true
				kept += len(f.Buffer.Bytes())
			}
			frames = append(frames, f)
		}
	}
}

func TestALittleFrameKeepsLittle(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		for _, size := range []int{5, 100, 1000, 20_000, 100_000} {
			near, far := l.open(t)
			config := readerConfig()
			config.Keep = true
			c := New(near, config, nobody{})
			done := feed(far, [][]byte{frame(size)})
			frames, kept := keepAll(t, c)
			<-done
			if len(frames) != 1 || kept > max(idleSize, 2*size) {
				t.Errorf("%d frames of %d bytes keep %d", len(frames), size, kept)
			}
			for _, f := range frames {
				f.Buffer.Release()
			}
		}
	})
}

func TestAWarmReaderAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget under the race detector")
	}
	onLinks(t, func(t *testing.T, l link) {
		if l.name == secure.name {
			t.Skip("crypto/tls does")
		}
		for _, size := range []int{100, 20_000, 200_000} {
			b := newBench(t, l, readerConfig())
			handled := make(chan struct{}, 1)
			b.handle = func(Frame) { handled <- struct{}{} }
			b.serve()
			f := frame(size)
			got := testing.AllocsPerRun(100, func() {
				b.write(f)
				<-handled
			})
			if got > 1 { // the row of arguments of write
				t.Errorf("reading %d bytes allocates %v times", size, got)
			}
			b.end(t)
		}
	})
}

// TestStowGivesMemoryBack in the middle of a turn, and loses no frame of it.
func TestStowGivesMemoryBack(t *testing.T) {
	for rest, charged := range map[int]bool{0: false, 1: false, 2900: false, 20_000: true} {
		b := newBench(t, tcp, readerConfig())
		frames := [][]byte{frame(50), frame(rest + 100), frame(1000)}
		if rest == 0 {
			frames = frames[:1]
		}
		var sizes []int
		b.handle = func(f Frame) {
			sizes = append(sizes, wire.HeaderSize+len(f.Payload))
			if err := b.Stow(); err != nil {
				t.Error(err)
			}
			if r, p := used(b.reads.Budget), used(b.bodies.Budget); r > 0 || len(sizes) == 1 && (p > 0) != charged {
				t.Errorf("with %d bytes left, %d and %d are charged", rest, r, p)
			}
		}
		b.write(slices.Concat(frames...))
		b.serve()
		all := len(slices.Concat(frames...))
		until(t, "all is read", func() bool { return b.Brought() == int64(all) && used(b.bodies.Budget) == 0 })
		b.end(t)
		var want []int
		for _, f := range frames {
			want = append(want, len(f))
		}
		if !slices.Equal(sizes, want) {
			t.Errorf("frames of %d bytes, want %d", sizes, want)
		}
	}
}

// TestStowWaitsForMemory as a large frame does, and ends with its owner.
func TestStowWaitsForMemory(t *testing.T) {
	b := newBench(t, tcp, readerConfig())
	other := b.bodies.Budget.Account(4 << 20).TryDraw(4 << 20)
	stowed := make(chan error, 1)
	b.handle = func(Frame) { stowed <- b.Stow() }
	b.write(slices.Concat(frame(50), frame(20_000)))
	b.serve()
	within(t, "somebody waits", b.bodies.Pressed())
	close(b.stop)
	if err := within(t, "the end of the wait", stowed); !errors.Is(err, body.ErrStopped) {
		t.Errorf("got %v, want %v", err, body.ErrStopped)
	}
	other.Release()
	b.Close()
	<-b.ended
}

// TestReadAtOnce has a reader that is to leave little over if not all can be handled.
func TestReadAtOnce(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		for _, most := range []int{1 << 10, 0} {
			b := newBench(t, l, readerConfig())
			sent := bytes.Repeat(frame(10), 10_000)
			go b.write(sent) // ends when all of it is read
			got := 0
			for b.Brought() < int64(len(sent)) {
				b.ReadAtOnce(most)
				if err := b.Fill(); err != nil {
					t.Fatal(err)
				}
				got = max(got, b.Pending())
				for ok := true; ok; {
					var err error
					if _, ok, err = next(b.Conn); err != nil {
						t.Fatal(err)
					}
				}
			}
			if most > 0 && got > most+10 || most == 0 && got < 2<<10 {
				t.Errorf("%d bytes were read at once, %d shall be at most", got, most)
			}
			b.Drop()
		}
	})
}
