package socket

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
)

// wholeConfig leaves each frame in the kernel that is larger than a read buffer.
func wholeConfig() *Config {
	c := readerConfig()
	c.MinWhole = readSize
	return c
}

// TestReader_LeavesUnfinishedFrameInTheKernel has frames that stop anywhere: none of them draws
// memory before its last byte is there, whatever size the kernel's buffer has at first.
func TestReader_LeavesUnfinishedFrameInTheKernel(t *testing.T) {
	for _, size := range []int{readSize + 1, readSize + 2*announceSize, 100_000, 400_000, 1 << 20} {
		b := newBench(t, tcp, wholeConfig())
		frames := make(chan int, 1)
		b.handle = func(f Frame) { frames <- len(f.Payload) }
		b.serve()
		f := frame(size)
		arrived := int64(0)
		for _, part := range [][]byte{f[:3], f[3 : size/2], f[size/2 : size-1]} {
			b.write(part)
			arrived += int64(len(part))
			until(t, "the kernel has it", func() bool { return b.Arrived() == arrived })
		}
		if p := peak(b.bodies.Budget); p != 0 {
			t.Errorf("%d bytes were drawn for all but a byte of a frame of %d", p, size)
		}
		if _, holds := b.Holding(); holds {
			t.Errorf("an unfinished frame of %d holds what others wait for", size)
		}
		b.write(f[size-1:])
		if got := within(t, "the frame", frames); got != size-5 {
			t.Errorf("a payload of %d bytes, want %d", got, size-5)
		}
		b.write(frame(10)) // it is readable by a single byte again
		within(t, "a small frame", frames)
		b.end(t)
	}
}

// TestReader_LeavesFrameInTheKernelWithoutReads has no memory for reads either.
func TestReader_LeavesFrameInTheKernelWithoutReads(t *testing.T) {
	b := newBench(t, tcp, wholeConfig())
	taken := b.reads.account.TryDraw(1 << 20)
	frames := make(chan int, 1)
	b.handle = func(f Frame) { frames <- len(f.Payload) }
	b.serve()
	f := frame(1 << 20)
	b.write(f[:len(f)-1])
	until(t, "the kernel has it", func() bool { return b.Arrived() == int64(len(f)-1) })
	if p := peak(b.bodies.Budget); p != 0 {
		t.Errorf("%d bytes were drawn", p)
	}
	b.write(f[len(f)-1:])
	within(t, "the frame", frames)
	taken.Release()
	b.end(t)
}

// TestReader_ReadsFrameThatTheKernelCannotHold with buffers of the kernel that are too small for
// it.
func TestReader_ReadsFrameThatTheKernelCannotHold(t *testing.T) {
	for _, buffer := range []int{32 << 10, 64 << 10, 200 << 10, 500 << 10} {
		b := newBench(t, tcp, wholeConfig())
		b.Reader.base.nc.(*net.TCPConn).SetReadBuffer(buffer)
		frames := make(chan int, 1)
		b.handle = func(f Frame) { frames <- len(f.Payload) }
		b.serve()
		for range 3 {
			go b.write(frame(1<<20), frame(10)) // ends when all is taken
			within(t, "the large frame", frames)
			within(t, "the small frame", frames)
		}
		b.end(t)
	}
}

// TestReader_StuckKernelDrawsMemory as much as it must: the rest of the frame does not come, but
// the kernel would not take it either.
func TestReader_StuckKernelDrawsMemory(t *testing.T) {
	b := newBench(t, tcp, wholeConfig())
	b.Reader.base.nc.(*net.TCPConn).SetReadBuffer(100 << 10)
	b.serve()
	f := frame(1 << 20)
	go b.write(f[:len(f)-1]) // ends when all is taken
	until(t, "the memory is drawn", func() bool { return used(b.bodies.Budget) == int64(body.Capacity(len(f))) })
	until(t, "all is read", func() bool { return b.Brought() == int64(len(f)-1) })
	if _, holds := b.Holding(); !holds {
		t.Error("what was drawn does not count as held")
	}
	b.end(t)
}

// TestReader_SeesTheEndOfAFrameInTheKernel at once, and draws nothing for it.
func TestReader_SeesTheEndOfAFrameInTheKernel(t *testing.T) {
	for _, reset := range []bool{false, true} {
		for _, size := range []int{readSize, 200_000, 1<<20 - 1} {
			b := newBench(t, tcp, wholeConfig())
			b.serve()
			b.write(frame(1 << 20)[:size])
			until(t, "the kernel has it", func() bool { return b.Arrived() == int64(size) })
			if reset {
				b.far.(*net.TCPConn).SetLinger(0)
				b.far.Close()
			} else {
				endWriting(b.far)
			}
			err := within(t, "the end", b.ended)
			if reset && (err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) || !reset && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("reset %v: ended with %v", reset, err)
			}
			if p := peak(b.bodies.Budget); p != 0 {
				t.Errorf("%d bytes were drawn", p)
			}
			b.Close()
		}
	}
}

// TestReader_InterruptsFrameInTheKernel by both ways that there are.
func TestReader_InterruptsFrameInTheKernel(t *testing.T) {
	for _, stop := range []func(*bench){func(b *bench) { b.Interrupt() }, func(b *bench) { b.Finish() }} {
		b := newBench(t, tcp, wholeConfig())
		b.serve()
		b.write(frame(1 << 20)[:500_000])
		until(t, "the kernel has it", func() bool { return b.Arrived() == 500_000 })
		stop(b)
		if err := within(t, "the end", b.ended); !errors.Is(err, ErrInterrupted) {
			t.Errorf("ended with %v, want %v", err, ErrInterrupted)
		}
		b.Close()
	}
}

// TestReader_ReadsStreamsThatItLeavesInTheKernel as they were sent.
func TestReader_ReadsStreamsThatItLeavesInTheKernel(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 2))
		var stream []byte
		for range 1 + random.IntN(20) {
			stream = append(stream, frame(4+random.IntN(1<<(3+random.IntN(17))))...)
		}
		stream = stream[:len(stream)-random.IntN(2)*random.IntN(4)]
		config := wholeConfig()
		config.Keep = seed%2 == 0
		owner := payer{account: newPurse(2 << 20).account}
		if seed%3 == 0 {
			config.Reads = newPurse(readSize * int64(seed%5)).account
		}
		frames, err := read(t, tcp, config, owner, randomChunks(stream, len(stream)/(1+random.IntN(50))+1, random))
		compare(t, stream, config.MaxLength, frames, err)
	}
}

func TestReader_AllocatesNothingForFrameInTheKernel(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget under the race detector")
	}
	b := newBench(t, tcp, wholeConfig())
	handled := make(chan struct{}, 1)
	b.handle = func(Frame) { handled <- struct{}{} }
	b.serve()
	f := frame(1 << 20)
	got := testing.AllocsPerRun(100, func() {
		b.write(f[:100_000])

		b.write(f[100_000:])
		<-handled
	})
	if got > 4 { // the rows of arguments of write
		t.Errorf("reading a large frame allocates %v times", got)
	}
	b.end(t)
}

// TestReader_ReadsFrameForWhichThereIsNoKernelRoom as it comes, and gives back the room that it
// took.
func TestReader_ReadsFrameForWhichThereIsNoKernelRoom(t *testing.T) {
	config := wholeConfig()
	config.Kernel = NewKernelRoom(1 << 20)
	f := frame(600 << 10)
	first, second := newBench(t, tcp, config), newBench(t, tcp, config)
	frames := make(chan int, 1)
	for _, b := range []*bench{first, second} {
		b.handle = func(f Frame) { frames <- len(f.Payload) }
		b.serve()
	}
	first.write(f[:len(f)-1])
	until(t, "the kernel has it", func() bool { return first.Arrived() == int64(len(f)-1) })
	until(t, "room is taken", func() bool { return config.Kernel.used.Load() > 500<<10 })
	second.write(f[:len(f)-1])
	until(t, "the other is read", func() bool { return second.Brought() == int64(len(f)-1) })
	if p := peak(first.bodies.Budget); p != 0 {
		t.Errorf("%d bytes were drawn for what the kernel has", p)
	}
	for _, b := range []*bench{first, second} {
		b.write(f[len(f)-1:])
		within(t, "the frame", frames)
	}
	until(t, "room is given back", func() bool { return config.Kernel.used.Load() == 0 })
	first.write(f[:len(f)/2])
	until(t, "room is taken again", func() bool { return config.Kernel.used.Load() > 0 })
	first.end(t)
	second.end(t)
	if n := config.Kernel.used.Load(); n != 0 {
		t.Errorf("%d bytes of room are taken at the end", n)
	}
}

// TestReader_ReadsFrameThatComesWithTheEnd has the end come while the Reader looks at what the
// kernel has.
func TestReader_ReadsFrameThatComesWithTheEnd(t *testing.T) {
	stream := frame(300_000)
	for range 300 {
		near, far := openTCP(t)
		c := New(near, wholeConfig(), nobody{})
		done := make(chan struct{})
		go func() { // ends when all is sent
			defer close(done)
			far.Write(stream[:200_000])
			far.Write(stream[200_000:])
			endWriting(far)
		}()
		frames, err := collect(c, func() {})
		<-done
		if len(frames) != 1 || !errors.Is(err, io.EOF) {
			t.Fatalf("%d frames and %v, want 1 and %v", len(frames), err, io.EOF)
		}
		c.Drop()
		near.Close()
		far.Close()
	}
}

// TestReader_LeavesTheEndOfAFrameInTheKernel has the end of a frame come while the Reader makes
// room in the kernel for it.
func TestReader_LeavesTheEndOfAFrameInTheKernel(t *testing.T) {
	b := newBench(t, tcp, wholeConfig())
	go func() { b.ended <- b.handleAll() }() // ends with Interrupt
	f := frame(readSize + announceSize/2)
	b.write(f[:readSize])
	until(t, "the rest is left in the kernel", func() (left bool) {
		_ = b.Reader.base.raw.Control(func(fd uintptr) { left = demandedRaw(fd) > 1 })
		return left
	})
	b.Interrupt()
	within(t, "the end of the reading", b.ended)
	defer b.Drop()
	b.write(f[readSize:])
	until(t, "all of it has come", func() bool { return b.Arrived() == int64(len(f)) })
	err := errors.New("not tried")
	_ = b.Reader.base.raw.Control(func(fd uintptr) { err = b.Reader.demandWhole(fd) })
	if err != nil || b.Reader.restLen >= len(f) {
		t.Errorf("%d of %d bytes are read without the final memory, %v", b.Reader.restLen, len(f), err)
	}
}
