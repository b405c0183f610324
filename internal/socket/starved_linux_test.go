package socket

import (
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
)

// TestAStarvedReaderLeavesHalfAFrameInTheKernel has no memory for reads: less than
// a read buffer of a large frame must draw none for bodies either.
func TestAStarvedReaderLeavesHalfAFrameInTheKernel(t *testing.T) {
	b := newBench(t, tcp, readerConfig())
	taken := b.reads.account.TryDraw(1 << 20)
	frames := make(chan int, 1)
	b.handle = func(f Frame) { frames <- len(f.Payload) }
	b.serve()
	big := frame(1 << 20)
	for _, part := range [][]byte{big[:3000], big[3000:20_000], big[20_000:60_000]} {
		b.write(part)
		until(t, "what may be read is read", func() bool { return b.Brought() > smallSize/2 })
	}
	b.Interrupt() // when it waits, or sooner
	within(t, "the end", b.ended)
	if p := peak(b.bodies.Budget); p != 0 {
		t.Errorf("%d bytes were drawn for less than a read buffer of a frame", p)
	}
	taken.Release()
}

// TestAStarvedReaderGoesOn sees to it that a frame comes when its rest does, and
// that the next one does as well, with or without memory.
func TestAStarvedReaderGoesOn(t *testing.T) {
	b := newBench(t, tcp, readerConfig())
	frames := make(chan int, 1)
	b.handle = func(f Frame) { frames <- len(f.Payload) }
	b.serve()
	var taken *body.Buffer
	for range 20 {
		until(t, "the memory is taken", func() bool { taken = b.reads.account.TryDraw(1 << 20); return taken != nil })
		for _, size := range []int{10, 3000, 20_000, 65_536, 65_537, 300_000} {
			before := b.Brought()
			b.write(frame(size)[:size-1])
			until(t, "it is begun", func() bool { return b.Brought() >= before+min(int64(size-1), smallSize/2) })
			if size == 20_000 {
				taken.Release() // while it waits for the rest
			}
			b.write(frame(size)[size-1:])
			if got := within(t, "a frame", frames); got != size-5 {
				t.Errorf("a payload of %d bytes, want %d", got, size-5)
			}
			b.write(slices.Concat(frame(10)))
			within(t, "a small frame", frames)
		}
	}
	b.end(t)
}

const minWhole = 256 << 10

// TestALargeFrameIsLeftInTheKernel draws its memory when the whole frame has come,
// and that of a smaller one when there is a read buffer full of it.
func TestALargeFrameIsLeftInTheKernel(t *testing.T) {
	config := readerConfig()
	config.MinWhole = minWhole
	b := newBench(t, tcp, config)
	b.Reader.base.nc.(*net.TCPConn).SetReadBuffer(2 << 20) // so that the kernel takes the whole frame
	frames := make(chan int, 1)
	b.handle = func(f Frame) { frames <- len(f.Payload) }
	b.serve()
	big := frame(2 * minWhole)
	b.write(big[:readSize])
	until(t, "the first read buffer is full", func() bool { return b.Brought() == readSize })
	b.write(big[readSize : len(big)-1])
	if p := peak(b.bodies.Budget); p != 0 {
		t.Errorf("%d bytes were drawn for a frame whose last byte has not come", p)
	}
	b.write(big[len(big)-1:])
	if got := within(t, "the frame", frames); got != len(big)-5 {
		t.Errorf("a payload of %d bytes, want %d", got, len(big)-5)
	}
	if p := peak(b.bodies.Budget); p == 0 {
		t.Error("nothing was drawn for the frame")
	}
	b.write(big[:len(big)/2]) // and the end in the middle of the next
	b.Interrupt()
	within(t, "the end", b.ended)

	config = readerConfig()
	config.MinWhole = minWhole
	b = newBench(t, tcp, config)
	b.serve()
	b.write(frame(minWhole)[:minWhole-1])
	until(t, "a smaller one has memory", func() bool { return peak(b.bodies.Budget) > 0 })
	b.end(t)
}

// TestReader_FrameLeftInTheKernelProgresses decides about a frame whose time is up, of which no more than a read
// buffer was read.
func TestReader_FrameLeftInTheKernelProgresses(t *testing.T) {
	config := readerConfig()
	config.MinWhole = minWhole
	b := newBench(t, tcp, config)
	b.Reader.base.nc.(*net.TCPConn).SetReadBuffer(2 << 20)
	go func() { b.ended <- b.handleAll() }() // ends with Interrupt
	big := frame(1 << 20)
	b.write(big[:readSize])
	until(t, "the first read buffer is full", func() bool { return b.Brought() == readSize })
	until(t, "the rest is left in the kernel", func() (left bool) {
		_ = b.Reader.base.raw.Control(func(fd uintptr) { left = demandedRaw(fd) > readSize })
		return left
	})
	b.write(big[readSize : 2*readSize])
	until(t, "more has come", func() bool { return b.Arrived() == 2*readSize })
	b.Interrupt()
	within(t, "the end of the reading", b.ended)
	defer b.Drop()
	timeIsUp := func() error {
		b.Reader.moved = now().after(-config.FrameTimeout)
		return b.late()
	}
	quantum := int(minFrameRate * config.FrameTimeout.Seconds())
	for n := 2 * readSize; n+quantum <= 4*readSize; n += quantum {
		b.write(big[n : n+quantum])
		until(t, "more has come", func() bool { return b.Arrived() == int64(n+quantum) })
		if err := timeIsUp(); err != nil {
			t.Fatalf("with %d bytes: %v", n+quantum, err)
		}
		if err := timeIsUp(); !errors.Is(err, ErrFrameTimeout) {
			t.Fatalf("without more than %d bytes: %v", n+quantum, err)
		}
	}
}
