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

	"github.com/gobwas/ws"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// testReader is a Reader with its budgets, and the other end of its connection.
type testReader struct {
	*Conn
	readBudget, bodyBudget testBudget
	far                    net.Conn
	stop                   chan struct{}
	write                  func(...[]byte) // writes to the other end
	ended                  chan error      // receives the error that ended serve
	handle                 func(Frame)     // called by serve for each frame; nil: none
}

func newTestReader(t testing.TB, tr testTransport, config *Config) *testReader {
	near, far := tr.open(t)
	rd := &testReader{far: far, readBudget: newTestBudget(1 << 20), bodyBudget: newTestBudget(4 << 20), stop: make(chan struct{}), ended: make(chan error, 1)}
	config.ReadAccount = rd.readBudget.account
	rd.Conn = New(near, config, testHandler{rd.bodyBudget.account, rd.stop})
	rd.write = func(parts ...[]byte) {
		for _, p := range parts {
			if _, err := far.Write(p); err != nil {
				t.Error(err)
			}
		}
	}
	return rd
}

// serve reads in a goroutine of its own, as the owner of a connection does.
func (rd *testReader) serve() {
	go func() { // ends with the connection
		err := rd.readAll()
		rd.ReleaseAll()
		rd.ended <- err
	}()
}

func (rd *testReader) readAll() error {
	for {
		if err := rd.Fill(); err != nil {
			return err
		}
		for {
			f, ok, err := readNext(rd.Conn)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if rd.handle != nil {
				rd.handle(f)
			}
		}
	}
}

// closeAndWait closes the connection and waits for the reading to end.
func (rd *testReader) closeAndWait(t testing.TB) {
	rd.Close()
	waitFor(t, "the end of the reading", rd.ended)
	if r, p := used(rd.readBudget.Budget), used(rd.bodyBudget.Budget); r != 0 || p != 0 {
		t.Errorf("%d and %d bytes are in use after ReleaseAll", r, p)
	}
}

func TestReader_IdleHoldsNothing(t *testing.T) {
	rd := newTestReader(t, tcp, readerConfig())
	rd.serve()
	big := frame(200_000)
	for _, part := range [][]byte{nil, smallStream(), big, slices.Concat(big, frame(10))} {
		before := rd.BytesRead()
		rd.write(part)
		waitUntil(t, "all is read", func() bool { return rd.BytesRead() == before+int64(len(part)) })
		waitUntil(t, "all memory is released", func() bool { return used(rd.readBudget.Budget) == 0 && used(rd.bodyBudget.Budget) == 0 })
	}
	rd.closeAndWait(t)
}

func TestReader_IdlePipeHoldsSmallBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rd := newTestReader(t, pipe, readerConfig())
		rd.serve()
		for _, part := range [][]byte{nil, smallStream(), frame(200_000), frame(10)} {
			rd.write(part)
			synctest.Wait()
			if r, p := used(rd.readBudget.Budget), used(rd.bodyBudget.Budget); r > readSize || p != 0 || len(part) < idleBufSize && r > idleBufSize {
				t.Errorf("%d and %d bytes are in use between two frames", r, p)
			}
		}
		rd.closeAndWait(t)
	})
}

// TestReader_HeaderAcquiresNothing sends the header of a large frame and less than a read
// buffer of it: the Reader must not acquire memory that others can wait for.
func TestReader_HeaderAcquiresNothing(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		rd := newTestReader(t, tr, readerConfig())
		rd.serve()
		big := frame(1 << 20)
		for _, part := range [][]byte{big[:4], big[4:1000], big[1000:60_000], big[60_000 : readSize-1]} {
			before := rd.BytesRead()
			rd.write(part)
			waitUntil(t, "all is read", func() bool { return rd.BytesRead() == before+tr.wireSize(len(part)) })
		}
		if p := peak(rd.bodyBudget.Budget); p != 0 {
			t.Errorf("%d bytes were acquired before a read buffer was full", p)
		}
		rd.write(big[readSize-1 : readSize+1])
		waitUntil(t, "the memory is acquired", func() bool { return used(rd.bodyBudget.Budget) == int64(body.Capacity(len(big))) })
		waitUntil(t, "the read buffer is released", func() bool { return used(rd.readBudget.Budget) == 0 })
		rd.write(big[readSize+1:])
		waitUntil(t, "the memory is released", func() bool { return used(rd.bodyBudget.Budget) == 0 })
		rd.closeAndWait(t)
	})
}

// TestReader_PartialFrameMemory checks the memory that a connection holds in the middle of a
// frame.
func TestReader_PartialFrameMemory(t *testing.T) {
	for _, test := range []struct {
		have int
		want int64 // charged
	}{
		{1, 0}, {100, 0}, {unchargedSize, 0}, // not charged
		{unchargedSize + 1, int64(body.Capacity(unchargedSize + 1))},
		{40_000, int64(body.Capacity(40_000))},
	} {
		rd := newTestReader(t, tcp, readerConfig())
		rd.serve()
		rd.write(frame(100_000)[:test.have])
		waitUntil(t, "all is read", func() bool { return rd.BytesRead() == int64(test.have) })
		waitUntil(t, "only the necessary memory is held", func() bool { return used(rd.readBudget.Budget) == test.want })
		if _, holds := rd.HeldSince(); holds {
			t.Errorf("%d bytes of a frame: HeldSince reports held memory", test.have)
		}
		rd.closeAndWait(t)
	}
}

func TestReader_LargeFrameWaitsForMemory(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		rd := newTestReader(t, tr, readerConfig())
		other := rd.bodyBudget.Budget.NewAccount(4 << 20).TryAcquire(4 << 20)
		frames := make(chan int, 2)
		rd.handle = func(f Frame) { frames <- len(f.Payload) }
		rd.serve()
		go rd.write(frame(10), frame(100_000)) // ends when all is read
		waitFor(t, "the Reader waits", rd.bodyBudget.Contended())
		waitFor(t, "the small frame before it", frames)
		if _, holds := rd.HeldSince(); holds {
			t.Error("a Reader that waits for memory holds memory")
		}
		other.Release()
		if got := waitFor(t, "the large frame", frames); got != 100_000-wire.HeaderSize {
			t.Errorf("%d bytes of payload", got)
		}
		rd.closeAndWait(t)
	})
}

func TestReader_DoneEndsWaitForMemory(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		rd := newTestReader(t, tr, readerConfig())
		other := rd.bodyBudget.Budget.NewAccount(4 << 20).TryAcquire(4 << 20)
		rd.serve()
		rd.write(frame(100_000)[:readSize])
		waitFor(t, "the Reader waits", rd.bodyBudget.Contended())
		close(rd.stop)
		if err := waitFor(t, "the end", rd.ended); !errors.Is(err, body.ErrStopped) {
			t.Errorf("got %v, want %v", err, body.ErrStopped)
		}
		other.Release()
		if r, p := used(rd.readBudget.Budget), used(rd.bodyBudget.Budget); r != 0 || p != 0 {
			t.Errorf("%d and %d bytes are in use after ReleaseAll", r, p)
		}
	})
}

// TestReader_InterruptEndsWaitForMemory interrupts the wait of a large frame, and the wait of
// Compact.
func TestReader_InterruptEndsWaitForMemory(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for _, compact := range []bool{false, true} {
			if compact && tr.isPipe { // a pipe read is too small to be charged
				continue
			}
			rd := newTestReader(t, tr, readerConfig())
			other := rd.bodyBudget.Budget.NewAccount(4 << 20).TryAcquire(4 << 20)
			stream := frame(100_000)[:readSize]
			if compact {
				stream = bytes.Repeat(slices.Concat(frame(50), frame(20_000)), 3)
				rd.handle = func(Frame) {
					if err := rd.Compact(); err != nil && !errors.Is(err, ErrInterrupted) {
						t.Errorf("Compact: %v, want %v", err, ErrInterrupted)
					}
				}
			}
			if compact {
				rd.write(stream) // before the read: a small read would leave no data to wait for
				rd.serve()
			} else {
				rd.serve()
				rd.write(stream)
			}
			waitFor(t, "the Reader waits", rd.bodyBudget.Contended())
			rd.Interrupt()
			if err := waitFor(t, "the end", rd.ended); !errors.Is(err, ErrInterrupted) {
				t.Errorf("got %v, want %v", err, ErrInterrupted)
			}
			other.Release()
		}
	})
}

// TestReader_HeldSince_WholeFrame calls HeldSince while the owner handles a frame whose start
// was held: the peer owes no more data, no matter how long the handling takes.
func TestReader_HeldSince_WholeFrame(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		rd := newTestReader(t, tr, readerConfig())
		held := make(chan bool, 1)
		rd.handle = func(Frame) {
			_, holds := rd.HeldSince()
			held <- holds
		}
		rd.serve()
		f := frame(100_000)
		rd.write(f[:len(f)-1])
		waitUntil(t, "the start is held", func() bool { _, holds := rd.HeldSince(); return holds })
		rd.write(f[len(f)-1:])
		if waitFor(t, "the frame", held) {
			t.Error("HeldSince reports the start of a whole frame as held")
		}
		rd.closeAndWait(t)
	})
}

// TestReader_HeldSince_StartsWithFrame checks that the time for which one frame was held does
// not count for the next frame.
func TestReader_HeldSince_StartsWithFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rd := newTestReader(t, pipe, readerConfig())
		rd.serve()
		f := frame(100_000)
		rd.write(f[:80_000])
		sleep(time.Second)
		begin := time.Now()
		rd.write(slices.Concat(f[80_000:], f[:80_000]))
		synctest.Wait()
		if since, holds := rd.HeldSince(); !holds || since.Before(begin) {
			t.Errorf("held since %v before the start of the frame (%v)", begin.Sub(since), holds)
		}
		rd.closeAndWait(t)
	})
}

// TestReader_RetainedFramesUnchanged retains every frame over many reads.
func TestReader_RetainedFramesUnchanged(t *testing.T) {
	for _, memory := range []struct {
		name  string
		limit int64 // of the budget for reads
	}{
		{"no account", 0},
		{"one read buffer", readSize},
		{"two read buffers", 2 * readSize},
	} {
		t.Run(memory.name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, tr testTransport) {
				for _, cut := range []int{36_000, 60_001, 500} {
					config := readerConfig()
					config.RetainsFrames = true
					if memory.limit > 0 {
						config.ReadAccount = newTestBudget(memory.limit).account
					}
					near, far := tr.open(t)
					stream := slices.Concat(frame(30_000), frame(10_000))
					for i := range 200 {
						stream = append(stream, frame(10+i*i%9000)...)
					}
					done := writeStream(far, chunks(stream, cut))
					frames, retained := retainAll(t, New(near, config, nopHandler{}))
					<-done
					compareRetained(t, frames, stream)
					if retained > 4*len(stream) {
						t.Errorf("frames of %d bytes keep %d", len(stream), retained)
					}
				}
			})
		})
	}
}

func compareRetained(t *testing.T, frames []Frame, stream []byte) {
	t.Helper()
	want, _ := parse(stream, wire.DefaultMaxBody)
	if len(frames) != len(want) {
		t.Errorf("%d frames, want %d", len(frames), len(want))
	}
	for i, f := range frames {
		if _, payload := wire.Split(want[i]); !bytes.Equal(f.Payload, payload) {
			t.Errorf("frame %d of %d bytes changed while it was retained", i, len(payload))
		}
		f.Buffer.Release()
	}
}

// retainAll retains all frames and returns the size of the memory that they keep.
func retainAll(t *testing.T, c *Conn) (frames []Frame, memory int) {
	defer c.ReleaseAll()
	seen := map[*body.Buffer]bool{}
	for {
		if err := c.Fill(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			return frames, memory
		}
		for f, ok, err := readNext(c); ok || err != nil; f, ok, err = readNext(c) {
			if err != nil {
				t.Fatal(err)
			}
			f.Buffer.Retain()
			if !seen[f.Buffer] {
				seen[f.Buffer] = true
				memory += len(f.Buffer.Bytes())
			}
			frames = append(frames, f)
		}
	}
}

func TestReader_SmallFrameRetainsSmallBuffer(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for _, size := range []int{5, 100, 1000, 20_000, 100_000} {
			near, far := tr.open(t)
			config := readerConfig()
			config.RetainsFrames = true
			c := New(near, config, nopHandler{})
			done := writeStream(far, [][]byte{frame(size)})
			frames, retained := retainAll(t, c)
			<-done
			if len(frames) != 1 || retained > max(idleBufSize, 2*size) {
				t.Errorf("%d frames of %d bytes keep %d", len(frames), size, retained)
			}
			for _, f := range frames {
				f.Buffer.Release()
			}
		}
	})
}

func TestReader_ZeroAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop items under the race detector")
	}
	onTransports(t, func(t *testing.T, tr testTransport) {
		if tr.name == overTLS.name || tr.name == secureWebSocket.name {
			t.Skip("crypto/tls allocates")
		}
		for _, size := range []int{100, 20_000, 200_000} {
			if (tr.name == inMemory.name || tr.name == webSocketMemory.name) && size > 4<<10-ws.MaxHeaderSize {
				continue // an empty memorypipe keeps no more
			}
			rd := newTestReader(t, tr, readerConfig())
			handled := make(chan struct{}, 1)
			rd.handle = func(Frame) { handled <- struct{}{} }
			rd.serve()
			f := frame(size)
			got := testing.AllocsPerRun(100, func() {
				rd.write(f)
				<-handled
			})
			if got > 1 { // the slice of the variadic write
				t.Errorf("reading %d bytes allocates %v times", size, got)
			}
			rd.closeAndWait(t)
		}
	})
}

// TestReader_Compact_ReleasesMemory calls Compact between the frames of one read, and loses
// none of them.
func TestReader_Compact_ReleasesMemory(t *testing.T) {
	for remaining, charged := range map[int]bool{0: false, 1: false, 2900: false, 20_000: true} {
		rd := newTestReader(t, tcp, readerConfig())
		frames := [][]byte{frame(50), frame(remaining + 100), frame(1000)}
		if remaining == 0 {
			frames = frames[:1]
		}
		var sizes []int
		rd.handle = func(f Frame) {
			sizes = append(sizes, wire.HeaderSize+len(f.Payload))
			if err := rd.Compact(); err != nil {
				t.Error(err)
			}
			if r, p := used(rd.readBudget.Budget), used(rd.bodyBudget.Budget); r > 0 || len(sizes) == 1 && (p > 0) != charged {
				t.Errorf("with %d bytes pending, %d and %d are charged", remaining, r, p)
			}
		}
		rd.write(slices.Concat(frames...))
		rd.serve()
		total := len(slices.Concat(frames...))
		waitUntil(t, "all is read", func() bool { return rd.BytesRead() == int64(total) && used(rd.bodyBudget.Budget) == 0 })
		rd.closeAndWait(t)
		var want []int
		for _, f := range frames {
			want = append(want, len(f))
		}
		if !slices.Equal(sizes, want) {
			t.Errorf("frames of %d bytes, want %d", sizes, want)
		}
	}
}

// TestReader_Compact_WaitsForMemory checks that Compact waits for memory as a large frame
// does, and that the wait ends with Handler.Done.
func TestReader_Compact_WaitsForMemory(t *testing.T) {
	rd := newTestReader(t, tcp, readerConfig())
	other := rd.bodyBudget.Budget.NewAccount(4 << 20).TryAcquire(4 << 20)
	compacted := make(chan error, 1)
	rd.handle = func(Frame) { compacted <- rd.Compact() }
	rd.write(slices.Concat(frame(50), frame(20_000)))
	rd.serve()
	waitFor(t, "the Reader waits", rd.bodyBudget.Contended())
	close(rd.stop)
	if err := waitFor(t, "the end of the wait", compacted); !errors.Is(err, body.ErrStopped) {
		t.Errorf("got %v, want %v", err, body.ErrStopped)
	}
	other.Release()
	rd.Close()
	<-rd.ended
}

// TestReader_SetReadLimit checks that a Reader with a limit reads few bytes at a time.
func TestReader_SetReadLimit(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for _, limit := range []int{1 << 10, 0} {
			rd := newTestReader(t, tr, readerConfig())
			sent := bytes.Repeat(frame(10), 10_000)
			go rd.write(sent) // ends when all of it is read
			got := 0
			for rd.BytesRead() < tr.wireSize(len(sent)) {
				rd.SetReadLimit(limit)
				if err := rd.Fill(); err != nil {
					t.Fatal(err)
				}
				got = max(got, rd.Pending())
				for ok := true; ok; {
					var err error
					if _, ok, err = readNext(rd.Conn); err != nil {
						t.Fatal(err)
					}
				}
			}
			if limit > 0 && got > limit+10 || limit == 0 && got < 2<<10 {
				t.Errorf("%d bytes were read at once, want at most %d", got, limit)
			}
			rd.ReleaseAll()
		}
	})
}
