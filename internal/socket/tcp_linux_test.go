package socket

import (
	"errors"
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sechlol/go-message-hub/internal/body"
)

// TestReader_NoMemory_LeavesFrameInKernel has no memory for reads: less than a read buffer of
// a large frame must not acquire memory for bodies either.
func TestReader_NoMemory_LeavesFrameInKernel(t *testing.T) {
	rd := newTestReader(t, tcp, readerConfig())
	reserved := rd.readBudget.account.TryAcquire(1 << 20)
	frames := make(chan int, 1)
	rd.handle = func(f Frame) { frames <- len(f.Payload) }
	rd.serve()
	big := frame(1 << 20)
	for _, part := range [][]byte{big[:3000], big[3000:20_000], big[20_000:60_000]} {
		rd.write(part)
		waitUntil(t, "the uncharged memory is full", func() bool { return rd.BytesRead() > unchargedSize/2 })
	}
	rd.Interrupt() // while the Reader waits, or before
	waitFor(t, "the end", rd.ended)
	if p := peak(rd.bodyBudget.Budget); p != 0 {
		t.Errorf("%d bytes were acquired for less than a read buffer of a frame", p)
	}
	reserved.Release()
}

// TestReader_NoMemory_Continues checks that a frame is read when its rest arrives, and the
// next frame as well, with or without memory.
func TestReader_NoMemory_Continues(t *testing.T) {
	rd := newTestReader(t, tcp, readerConfig())
	frames := make(chan int, 1)
	rd.handle = func(f Frame) { frames <- len(f.Payload) }
	rd.serve()
	var reserved *body.Buffer
	for range 20 {
		waitUntil(t, "the memory is reserved", func() bool { reserved = rd.readBudget.account.TryAcquire(1 << 20); return reserved != nil })
		for _, size := range []int{10, 3000, 20_000, 65_536, 65_537, 300_000} {
			before := rd.BytesRead()
			rd.write(frame(size)[:size-1])
			waitUntil(t, "the frame is started", func() bool { return rd.BytesRead() >= before+min(int64(size-1), unchargedSize/2) })
			if size == 20_000 {
				reserved.Release() // while the Reader waits for the rest
			}
			rd.write(frame(size)[size-1:])
			if got := waitFor(t, "a frame", frames); got != size-5 {
				t.Errorf("a payload of %d bytes, want %d", got, size-5)
			}
			rd.write(slices.Concat(frame(10)))
			waitFor(t, "a small frame", frames)
		}
	}
	rd.closeAndWait(t)
}

const minWhole = 256 << 10

// TestReader_MinWhole_LeavesLargeFrameInKernel checks that the memory of a large frame is
// acquired when the whole frame has arrived, and that of a smaller frame when a full read
// buffer of it has arrived.
func TestReader_MinWhole_LeavesLargeFrameInKernel(t *testing.T) {
	config := readerConfig()
	config.MinWhole = minWhole
	rd := newTestReader(t, tcp, config)
	rd.transport().Conn().(*net.TCPConn).SetReadBuffer(2 << 20) // large enough for the whole frame
	frames := make(chan int, 1)
	rd.handle = func(f Frame) { frames <- len(f.Payload) }
	rd.serve()
	big := frame(2 * minWhole)
	rd.write(big[:readSize])
	waitUntil(t, "the first read buffer is full", func() bool { return rd.BytesRead() == readSize })
	rd.write(big[readSize : len(big)-1])
	if p := peak(rd.bodyBudget.Budget); p != 0 {
		t.Errorf("%d bytes were acquired for a frame whose last byte has not arrived", p)
	}
	rd.write(big[len(big)-1:])
	if got := waitFor(t, "the frame", frames); got != len(big)-5 {
		t.Errorf("a payload of %d bytes, want %d", got, len(big)-5)
	}
	if p := peak(rd.bodyBudget.Budget); p == 0 {
		t.Error("no memory was acquired for the frame")
	}
	rd.write(big[:len(big)/2]) // then the stream ends in the middle of the next frame
	rd.Interrupt()
	waitFor(t, "the end", rd.ended)

	config = readerConfig()
	config.MinWhole = minWhole
	rd = newTestReader(t, tcp, config)
	rd.serve()
	rd.write(frame(minWhole)[:minWhole-1])
	waitUntil(t, "the smaller frame has memory", func() bool { return peak(rd.bodyBudget.Budget) > 0 })
	rd.closeAndWait(t)
}

// TestReader_FrameTimeout_FrameInKernel lets the frame timeout expire for a frame of which
// only a read buffer was read.
func TestReader_FrameTimeout_FrameInKernel(t *testing.T) {
	config := readerConfig()
	config.MinWhole = minWhole
	rd := newTestReader(t, tcp, config)
	rd.transport().Conn().(*net.TCPConn).SetReadBuffer(2 << 20)
	go func() { rd.ended <- rd.readAll() }() // ends with Interrupt
	big := frame(1 << 20)
	rd.write(big[:readSize])
	waitUntil(t, "the first read buffer is full", func() bool { return rd.BytesRead() == readSize })
	waitUntil(t, "the rest is left in the kernel", func() (inKernel bool) {
		_ = rd.transport().(*tcpTransport).raw.Control(func(fd uintptr) { inKernel = rcvLowatRaw(fd) > readSize })
		return inKernel
	})
	rd.write(big[readSize : 2*readSize])
	waitUntil(t, "more has arrived", func() bool { return rd.BytesArrived() == 2*readSize })
	rd.Interrupt()
	waitFor(t, "the end of the reading", rd.ended)
	defer rd.ReleaseAll()
	timeIsUp := func() error {
		rd.Reader.progressAt = now().add(-config.FrameTimeout)
		return rd.checkProgress()
	}
	quantum := int(minFrameRate * config.FrameTimeout.Seconds())
	for n := 2 * readSize; n+quantum <= 4*readSize; n += quantum {
		rd.write(big[n : n+quantum])
		waitUntil(t, "more has arrived", func() bool { return rd.BytesArrived() == int64(n+quantum) })
		if err := timeIsUp(); err != nil {
			t.Fatalf("with %d bytes: %v", n+quantum, err)
		}
		if err := timeIsUp(); !errors.Is(err, ErrFrameTimeout) {
			t.Fatalf("without more than %d bytes: %v", n+quantum, err)
		}
	}
}

// waitForBytes waits until n bytes have arrived, without reading them.
func waitForBytes(t *testing.T, nc net.Conn, n int) {
	t.Helper()
	raw := rawConn(nc)
	got := 0
	waitUntil(t, "all bytes have arrived", func() bool {
		raw.Control(func(fd uintptr) { got, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
		return got >= n
	})
}

// TestReader_StopWhenEmpty_ReadsWhatArrived stops the reading of a connection whose bytes have
// arrived.
func TestReader_StopWhenEmpty_ReadsWhatArrived(t *testing.T) {
	for _, test := range []struct {
		name   string
		stream []byte
		end    bool
		want   error
	}{
		{"small frames", slices.Concat(frame(10), frame(1000)), false, ErrInterrupted},
		{"more than a read", slices.Concat(frame(50_000), frame(50_000), frame(100)), false, ErrInterrupted},
		{"a large frame", slices.Concat(frame(100_000), frame(10)), false, ErrInterrupted},
		{"half a frame", slices.Concat(frame(10), frame(1000)[:999]), false, ErrInterrupted},
		{"half a large frame", frame(100_000)[:99_999], false, ErrInterrupted},
		{"the end", frame(10), true, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			near, far := openTCP(t)
			near.(interface{ SetReadBuffer(int) error }).SetReadBuffer(1 << 20)
			config := readerConfig()
			if _, err := far.Write(test.stream); err != nil {
				t.Fatal(err)
			}
			if test.end {
				endWriting(far)
			}
			c := New(near, config, nopHandler{})
			waitForBytes(t, near, len(test.stream))
			c.StopWhenEmpty()
			frames, err := collect(c, func() {})
			if want, wantErr := parse(test.stream, config.MaxLength); len(frames) != len(want) ||
				!errors.Is(err, test.want) && test.want != nil || test.want == nil && !errors.Is(err, wantErr) {
				t.Errorf("%d frames and %v, want %d", len(frames), err, len(want))
			}
		})
	}
}

// TestReader_SinceTCPAck checks the sign of life of a peer whose data is not read, and whose
// application sends nothing.
// TestReader_PeerEnded checks that PeerEnded sees the end behind unread data.
