package socket

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
)

// minWholeConfig leaves each frame in the kernel that is larger than a read buffer.
func minWholeConfig() *Config {
	c := readerConfig()
	c.MinWhole = readSize
	return c
}

// TestReader_MinWhole_LeavesPartialFrameInKernel has frames that stop at any place: none of
// them acquires memory before its last byte has arrived, for any initial size of the kernel's
// buffer.
func TestReader_MinWhole_LeavesPartialFrameInKernel(t *testing.T) {
	for _, size := range []int{readSize + 1, readSize + 2*announceSize, 100_000, 400_000, 1 << 20} {
		rd := newTestReader(t, tcp, minWholeConfig())
		frames := make(chan int, 1)
		rd.handle = func(f Frame) { frames <- len(f.Payload) }
		rd.serve()
		f := frame(size)
		arrived := int64(0)
		for _, part := range [][]byte{f[:3], f[3 : size/2], f[size/2 : size-1]} {
			rd.write(part)
			arrived += int64(len(part))
			waitUntil(t, "the bytes have arrived", func() bool { return rd.BytesArrived() == arrived })
		}
		if p := peak(rd.bodyBudget.Budget); p != 0 {
			t.Errorf("%d bytes were acquired for all but one byte of a frame of %d", p, size)
		}
		if _, holds := rd.HeldSince(); holds {
			t.Errorf("HeldSince reports held memory for an unfinished frame of %d", size)
		}
		rd.write(f[size-1:])
		if got := waitFor(t, "the frame", frames); got != size-5 {
			t.Errorf("a payload of %d bytes, want %d", got, size-5)
		}
		rd.write(frame(10)) // a single byte makes the socket readable again
		waitFor(t, "a small frame", frames)
		rd.closeAndWait(t)
	}
}

// TestReader_MinWhole_WithoutReadMemory has no memory for reads either.
func TestReader_MinWhole_WithoutReadMemory(t *testing.T) {
	rd := newTestReader(t, tcp, minWholeConfig())
	reserved := rd.readBudget.account.TryAcquire(1 << 20)
	frames := make(chan int, 1)
	rd.handle = func(f Frame) { frames <- len(f.Payload) }
	rd.serve()
	f := frame(1 << 20)
	rd.write(f[:len(f)-1])
	waitUntil(t, "the bytes have arrived", func() bool { return rd.BytesArrived() == int64(len(f)-1) })
	if p := peak(rd.bodyBudget.Budget); p != 0 {
		t.Errorf("%d bytes were acquired", p)
	}
	rd.write(f[len(f)-1:])
	waitFor(t, "the frame", frames)
	reserved.Release()
	rd.closeAndWait(t)
}

// TestReader_MinWhole_FrameLargerThanKernelBuffer has kernel buffers that are too small for
// the frame.
func TestReader_MinWhole_FrameLargerThanKernelBuffer(t *testing.T) {
	for _, buffer := range []int{32 << 10, 64 << 10, 200 << 10, 500 << 10} {
		rd := newTestReader(t, tcp, minWholeConfig())
		rd.transport().Conn().(*net.TCPConn).SetReadBuffer(buffer)
		frames := make(chan int, 1)
		rd.handle = func(f Frame) { frames <- len(f.Payload) }
		rd.serve()
		for range 3 {
			go rd.write(frame(1<<20), frame(10)) // ends when all is accepted
			waitFor(t, "the large frame", frames)
			waitFor(t, "the small frame", frames)
		}
		rd.closeAndWait(t)
	}
}

// TestReader_MinWhole_StuckKernelAcquiresMemory checks that the memory of a frame is acquired
// before its rest has arrived if the kernel accepts no more.
func TestReader_MinWhole_StuckKernelAcquiresMemory(t *testing.T) {
	rd := newTestReader(t, tcp, minWholeConfig())
	rd.transport().Conn().(*net.TCPConn).SetReadBuffer(100 << 10)
	rd.serve()
	f := frame(1 << 20)
	go rd.write(f[:len(f)-1]) // ends when all is accepted
	waitUntil(t, "the memory is acquired", func() bool { return used(rd.bodyBudget.Budget) == int64(body.Capacity(len(f))) })
	waitUntil(t, "all is read", func() bool { return rd.BytesRead() == int64(len(f)-1) })
	if _, holds := rd.HeldSince(); !holds {
		t.Error("HeldSince does not report the acquired memory")
	}
	rd.closeAndWait(t)
}

// TestReader_MinWhole_EndInMidFrame checks that the end of the stream in the middle of a frame
// is seen at once, and that no memory is acquired.
func TestReader_MinWhole_EndInMidFrame(t *testing.T) {
	for _, reset := range []bool{false, true} {
		for _, size := range []int{readSize, 200_000, 1<<20 - 1} {
			rd := newTestReader(t, tcp, minWholeConfig())
			rd.serve()
			rd.write(frame(1 << 20)[:size])
			waitUntil(t, "the bytes have arrived", func() bool { return rd.BytesArrived() == int64(size) })
			if reset {
				rd.far.(*net.TCPConn).SetLinger(0)
				rd.far.Close()
			} else {
				endWriting(rd.far)
			}
			err := waitFor(t, "the end", rd.ended)
			if reset && (err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) || !reset && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("reset %v: ended with %v", reset, err)
			}
			if p := peak(rd.bodyBudget.Budget); p != 0 {
				t.Errorf("%d bytes were acquired", p)
			}
			rd.Close()
		}
	}
}

// TestReader_MinWhole_Interrupt stops the Reader by Interrupt and by StopWhenEmpty.
func TestReader_MinWhole_Interrupt(t *testing.T) {
	for _, stop := range []func(*testReader){func(rd *testReader) { rd.Interrupt() }, func(rd *testReader) { rd.StopWhenEmpty() }} {
		rd := newTestReader(t, tcp, minWholeConfig())
		rd.serve()
		rd.write(frame(1 << 20)[:500_000])
		waitUntil(t, "the bytes have arrived", func() bool { return rd.BytesArrived() == 500_000 })
		stop(rd)
		if err := waitFor(t, "the end", rd.ended); !errors.Is(err, ErrInterrupted) {
			t.Errorf("ended with %v, want %v", err, ErrInterrupted)
		}
		rd.Close()
	}
}

// TestReader_MinWhole_RandomStreams checks that random streams are read as they were sent.
func TestReader_MinWhole_RandomStreams(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 2))
		var stream []byte
		for range 1 + random.IntN(20) {
			stream = append(stream, frame(4+random.IntN(1<<(3+random.IntN(17))))...)
		}
		stream = stream[:len(stream)-random.IntN(2)*random.IntN(4)]
		config := minWholeConfig()
		config.RetainsFrames = seed%2 == 0
		handler := testHandler{account: newTestBudget(2 << 20).account}
		if seed%3 == 0 {
			config.ReadAccount = newTestBudget(readSize * int64(seed%5)).account
		}
		frames, err := readStream(t, tcp, config, handler, randomChunks(stream, len(stream)/(1+random.IntN(50))+1, random))
		compareFrames(t, stream, config.MaxLength, frames, err)
	}
}

func TestReader_MinWhole_ZeroAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop items under the race detector")
	}
	rd := newTestReader(t, tcp, minWholeConfig())
	handled := make(chan struct{}, 1)
	rd.handle = func(Frame) { handled <- struct{}{} }
	rd.serve()
	f := frame(1 << 20)
	got := testing.AllocsPerRun(100, func() {
		rd.write(f[:100_000])

		rd.write(f[100_000:])
		<-handled
	})
	if got > 4 { // the slices of the variadic writes
		t.Errorf("reading a large frame allocates %v times", got)
	}
	rd.closeAndWait(t)
}

// TestReader_MinWhole_KernelBudgetExhausted checks that a frame without kernel budget is read
// as it arrives, and that budget is released at the end of its frame.
func TestReader_MinWhole_KernelBudgetExhausted(t *testing.T) {
	config := minWholeConfig()
	config.KernelBudget = NewKernelBudget(1 << 20)
	f := frame(600 << 10)
	first, second := newTestReader(t, tcp, config), newTestReader(t, tcp, config)
	frames := make(chan int, 1)
	for _, rd := range []*testReader{first, second} {
		rd.handle = func(f Frame) { frames <- len(f.Payload) }
		rd.serve()
	}
	first.write(f[:len(f)-1])
	waitUntil(t, "the bytes have arrived", func() bool { return first.BytesArrived() == int64(len(f)-1) })
	waitUntil(t, "kernel budget is acquired", func() bool { return config.KernelBudget.used.Load() > 500<<10 })
	second.write(f[:len(f)-1])
	waitUntil(t, "the other frame is read", func() bool { return second.BytesRead() == int64(len(f)-1) })
	if p := peak(first.bodyBudget.Budget); p != 0 {
		t.Errorf("%d bytes were acquired for a frame in the kernel", p)
	}
	for _, rd := range []*testReader{first, second} {
		rd.write(f[len(f)-1:])
		waitFor(t, "the frame", frames)
	}
	waitUntil(t, "kernel budget is released", func() bool { return config.KernelBudget.used.Load() == 0 })
	first.write(f[:len(f)/2])
	waitUntil(t, "kernel budget is acquired again", func() bool { return config.KernelBudget.used.Load() > 0 })
	first.closeAndWait(t)
	second.closeAndWait(t)
	if n := config.KernelBudget.used.Load(); n != 0 {
		t.Errorf("%d bytes of kernel budget are in use at the end", n)
	}
}

// TestReader_MinWhole_FrameWithEOF has the end of the stream arrive while the Reader checks
// the state of the kernel.
func TestReader_MinWhole_FrameWithEOF(t *testing.T) {
	stream := frame(300_000)
	for range 300 {
		near, far := openTCP(t)
		c := New(near, minWholeConfig(), nopHandler{})
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
		c.ReleaseAll()
		near.Close()
		far.Close()
	}
}

// TestReader_RaiseRcvLowat_LeavesLastByte has the end of a frame arrive while the Reader
// raises SO_RCVLOWAT.
func TestReader_RaiseRcvLowat_LeavesLastByte(t *testing.T) {
	rd := newTestReader(t, tcp, minWholeConfig())
	go func() { rd.ended <- rd.readAll() }() // ends with Interrupt
	f := frame(readSize + announceSize/2)
	rd.write(f[:readSize])
	waitUntil(t, "the rest is left in the kernel", func() (inKernel bool) {
		_ = rd.transport().(*tcpTransport).raw.Control(func(fd uintptr) { inKernel = rcvLowatRaw(fd) > 1 })
		return inKernel
	})
	rd.Interrupt()
	waitFor(t, "the end of the reading", rd.ended)
	defer rd.ReleaseAll()
	rd.write(f[readSize:])
	waitUntil(t, "all bytes have arrived", func() bool { return rd.BytesArrived() == int64(len(f)) })
	err := errors.New("not tried")
	_ = rd.transport().(*tcpTransport).raw.Control(func(fd uintptr) { err = rd.transport().(*tcpTransport).raiseRcvLowat(fd) })
	if err != nil || rd.Reader.startLen >= len(f) {
		t.Errorf("%d of %d bytes are read without the final memory, %v", rd.Reader.startLen, len(f), err)
	}
}
