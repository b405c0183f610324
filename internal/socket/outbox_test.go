package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"weak"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

func TestFramesLeaveInTheirOrder(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		for seed := range uint64(5) {
			s, random := newStation(t, l, Config{OutboxBytes: 100_000}), rand.New(rand.NewPCG(seed, 1))
			received := make(chan []byte)
			go func() { // ends with the connection
				all, _ := io.ReadAll(s.far)
				received <- all
			}()
			d := s.dispatch()
			var want []byte
			for range 300 {
				f := frame(4 + random.IntN(1<<(3+random.IntN(14))))
				want = append(want, f...)
				s.offer(d, f)
				if random.IntN(3) == 0 {
					d.Wait(nil)
				}
			}
			if !d.Wait(nil) || !s.Drain(nil) {
				t.Error("something is left")
			}
			d.Drop()
			s.Close()
			if got := within(t, "the end", received); !bytes.Equal(got, want) {
				t.Errorf("%d bytes came, and not as they should (%d)", len(got), len(want))
			}
			s.Wait()
			s.wantSettled(t)
			if n := used(s.blocks.Budget); n != 0 {
				t.Errorf("%d bytes of copies are held", n)
			}
		}
	})
}

// numbered is a frame that says who sent it and as which.
func numbered(sender, n, size int) []byte {
	f := frame(max(size, wire.HeaderSize+16))
	binary.BigEndian.PutUint64(f[wire.HeaderSize:], uint64(sender))
	binary.BigEndian.PutUint64(f[wire.HeaderSize+8:], uint64(n))
	return f
}

// TestManySenders has senders offer at once, to a receiver that is slower than
// they are. What each of them sent must come whole and in its order.
func TestManySenders(t *testing.T) {
	const senders, each = 6, 200
	onLinks(t, func(t *testing.T, l link) {
		s := newStation(t, l, Config{OutboxBytes: 8 << 10})
		var wg sync.WaitGroup
		for sender := range senders {
			wg.Go(func() {
				d, random := s.dispatch(), rand.New(rand.NewPCG(uint64(sender), 1))
				defer d.Drop()
				for n := range each {
					if s.offer(d, numbered(sender, n, random.IntN(3*copyMost))) == Gone {
						t.Error("gone")
					}
					if !d.Wait(nil) {
						t.Error("stopped")
					}
				}
			})
		}
		c := New(s.far, readerConfig(), nobody{})
		next := map[uint64]uint64{}
		for range senders * each {
			payload := nextFrame(t, c).Payload
			sender, n := binary.BigEndian.Uint64(payload), binary.BigEndian.Uint64(payload[8:])
			if n != next[sender] {
				t.Fatalf("number %d of sender %d came, want %d", n, sender, next[sender])
			}
			next[sender]++
		}
		c.Drop()
		wg.Wait()
		s.finish(t)
	})
}

func nextFrame(t *testing.T, c *Conn) Frame {
	t.Helper()
	for {
		f, ok, err := next(c)
		if ok {
			return f
		}
		if err == nil {
			err = c.Fill()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSmallPiecesAreCopiedLargeOnesReferredTo(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		for _, test := range []struct {
			size   int
			copied bool
		}{{wire.LengthSize, true}, {100, true}, {copyMost, true}, {copyMost + 1, false}, {100_000, false}} {
			s := newStation(t, l, Config{OutboxBytes: 1 << 20})
			d, p := s.dispatch(), s.piece(frame(test.size))
			s.add(&s.offered, Tally{p.Frames, p.Deliveries, p.To})
			s.Offer(p, d) // and not yet flushed
			if test.copied {
				clear(p.Buffer.Bytes()) // a copy does not mind
			}
			p.Buffer.Release()
			if held := used(s.pieces.Budget) > 0; held == test.copied {
				t.Errorf("a piece of %d bytes is held by reference: %v", test.size, held)
			}
			if blocks := s.blocksUsed(); (blocks == 1) != test.copied {
				t.Errorf("a piece of %d bytes lies in %d blocks", test.size, blocks)
			}
			d.Drop()
			s.wantStream(t, frame(test.size))
			s.finish(t)
		}
	})
}

func TestCopiesLieTogether(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		s := newStation(t, l, Config{OutboxBytes: 1 << 20})
		d := s.dispatch()
		var want []byte
		for range 2*blockSize/100 - 1 { // two blocks full
			s.offer(d, frame(100))
			want = append(want, frame(100)...)
		}
		if n := s.blocksUsed(); n > 3 { // one of them is spare
			t.Errorf("%d bytes lie in %d blocks", len(want), n)
		}
		s.offer(d, frame(copyMost+1)) // by reference: what comes next needs another block
		s.offer(d, frame(100))
		want = slices.Concat(want, frame(copyMost+1), frame(100))
		d.Drop()
		s.wantStream(t, want)
		s.finish(t)
	})
}

func TestWithoutMemoryForACopyThePieceIsHeld(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		s := newStation(t, l, Config{OutboxBytes: 1 << 20})
		none := newPurse(1)
		defer none.account.TryDraw(1).Release()
		d := &Dispatch{Blocks: none.account}
		var want []byte
		for i := range 100 {
			s.offer(d, frame(100+i))
			want = append(want, frame(100+i)...)
		}
		d.Drop()
		s.wantStream(t, want)
		s.finish(t)
	})
}

// TestPartialWrites has a peer that takes any number of bytes at a time.
func TestPartialWrites(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		for _, most := range []int{3, 700, 100_000} {
			s, random := newStation(t, l, Config{OutboxBytes: 1 << 20}), rand.New(rand.NewPCG(uint64(most), 1))
			d := s.dispatch()
			var want []byte
			for i := range 40 {
				f := [][]byte{frame(10_000), frame(5 + i), {0, 0, 0, 1, 9}, frame(4)}[i%4]
				want = append(want, f...)
				s.offer(d, f)
			}
			d.Flush()
			got, b := []byte(nil), make([]byte, most)
			for len(got) < len(want) {
				n, err := s.far.Read(b[:1+random.IntN(most)])
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, b[:n]...)
			}
			if !bytes.Equal(got, want) {
				t.Error("what came is not what was sent")
			}
			d.Drop()
			s.finish(t)
		}
	})
}

// TestTheTallyIsExactWhenClosedInTheMiddle closes after a peer has taken part of
// a piece, with more queued and more parked behind it.
func TestTheTallyIsExactWhenClosedInTheMiddle(t *testing.T) {
	for _, taken := range []int{0, 1, 4, 999, 1000, 1001, 2500, 9999, 10_000, 10_001, 12_345} {
		s := newStation(t, pipe, Config{OutboxBytes: 20_000})
		first, second, third := s.dispatch(), s.dispatch(), s.dispatch()
		ten := slices.Repeat([][]byte{frame(1000)}, 10)
		ten[3] = slices.Concat(frame(500), []byte{0, 0, 0, 1, 9}, frame(495)) // not all of them are deliveries
		s.offer(first, slices.Concat(ten[:3], ten[4:], [][]byte{ten[3][:500], ten[3][500:505], ten[3][505:]})...)
		s.offer(first, frame(100))
		s.offer(first, frame(20_000))
		first.Drop()
		for _, d := range []*Dispatch{second, third} {
			if s.offer(d, frame(100)) != Parked {
				t.Fatal("there is room")
			}
		}
		if _, err := io.ReadFull(s.far, make([]byte, taken)); err != nil {
			t.Fatal(err)
		}
		s.Close()
		for _, d := range []*Dispatch{second, third} {
			if !d.Wait(nil) {
				t.Error("stopped")
			}
			d.Drop()
		}
		s.Wait()
		s.wantSettled(t)
		if got := s.tally(&s.sent).Bytes; got != taken {
			t.Errorf("%d bytes were sent, %d taken", got, taken)
		}
	}
}

func TestTheTallyIsExactWhenTheConnectionBreaks(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 4 << 20})
	s.far.(*net.TCPConn).SetReadBuffer(16 << 10) // so that the kernel cannot take it all
	s.Reader.base.nc.(*net.TCPConn).SetWriteBuffer(16 << 10)
	d := s.dispatch()
	for range 50 {
		s.offer(d, frame(50_000), frame(4), []byte{0, 0, 0, 1, 9})
		s.offer(d, frame(100))
		d.Flush()
	}
	s.far.(*net.TCPConn).SetLinger(0)
	s.far.Close()
	if err := within(t, "the failure", s.failed); err == nil || errors.Is(err, ErrStalled) {
		t.Errorf("failed with %v", err)
	}
	d.Drop()
	s.Wait()
	s.wantSettled(t)
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestResetForgetsWhatIsUnsent(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 1 << 20})
	d := s.dispatch()
	s.fill(t, d, frame(100_000))
	d.Drop()
	if err := s.Reset(); err != nil {
		t.Error(err)
	}
	s.Wait()
	s.wantSettled(t)
	if _, err := io.Copy(io.Discard, s.far); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer sees %v, want a reset", err)
	}
}

func TestAClosedOutboxTakesNothing(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		s := newStation(t, l, Config{OutboxBytes: 1 << 20})
		s.Close()
		s.Close()
		d := s.dispatch()
		for _, size := range []int{10, 10_000} {
			if got := s.offer(d, frame(size)); got != Gone {
				t.Errorf("a closed outbox says %v", got)
			}
		}
		p := s.piece(frame(10))
		if got := d.Enqueue(&s.Outbox, p, nil); got != Gone {
			t.Errorf("a closed outbox says %v", got)
		}
		p.Buffer.Release()
		if !d.Wait(nil) || s.Drain(nil) {
			t.Error("nothing is to be waited for, and nothing was drained")
		}
		d.Drop()
		s.Wait()
		s.wantSettled(t)
		select {
		case err := <-s.failed:
			t.Errorf("closing is no failure: %v", err)
		default:
		}
	})
}

func TestPulseAndAccounts(t *testing.T) {
	s := newStation(t, pipe, Config{OutboxBytes: 1 << 20})
	if p := s.Pulse(); p != (Pulse{}) || len(s.Accounts(nil)) != 0 {
		t.Errorf("at first: %+v", p)
	}
	d := s.dispatch()
	s.offer(d, frame(40_000))
	s.offer(d, frame(40_000))
	s.offer(d, frame(100))
	if p := s.Pulse(); p != (Pulse{Busy: true, Queued: 80_100 + 2*segmentCost}) {
		t.Errorf("with something queued: %+v", p)
	}
	want := []*body.Account{s.pieces.account, s.blocks.account}
	if got := s.Accounts(nil); !slices.Equal(got, want) {
		t.Errorf("%d accounts, want those of the pieces and of the copies", len(got))
	}
	d.Drop()
	s.wantStream(t, slices.Concat(frame(40_000), frame(40_000)))
	until(t, "the first are counted", func() bool { return s.Pulse() == Pulse{Sent: 80_000, Busy: true, Queued: 100} })
	if got := s.Accounts(nil); !slices.Equal(got, want[1:]) {
		t.Errorf("%d accounts, want that of the copies", len(got))
	}
	s.wantStream(t, frame(100))
	until(t, "it is dry", func() bool { return s.Pulse() == Pulse{Sent: 80_100, Dried: 1} })
	s.finish(t)
}

// TestADryOutboxHoldsNothing looks for what a connection keeps that has nothing
// to send: no flusher, no queue, and not the last thing that it wrote.
func TestADryOutboxHoldsNothing(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		s := newStation(t, l, Config{OutboxBytes: 8 << 20})
		d := s.dispatch()
		go io.Copy(io.Discard, s.far) // ends with the connection
		last := func() weak.Pointer[byte] {
			p := s.piece(frame(3 << 20)) // larger than what goes back to a pool
			defer p.Buffer.Release()
			s.add(&s.offered, Tally{p.Frames, p.Deliveries, p.To})
			s.Offer(p, d)
			return weak.Make(&p.Buffer.Bytes()[0])
		}()
		d.Drop()
		until(t, "it is dry", func() bool { return !s.Busy() && !s.flushes() })
		if s.queue != nil || s.weight != 0 || s.parked != nil {
			t.Errorf("a dry outbox has a queue %v of weight %d", s.queue, s.weight)
		}
		until(t, "the memory of what was written is free", func() bool {
			runtime.GC()
			return last.Value() == nil
		})
		s.finish(t)
	})
}

func TestAWarmOutboxAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget under the race detector")
	}
	onLinks(t, func(t *testing.T, l link) {
		for _, size := range []int{100, 10_000} {
			s := newStation(t, l, Config{OutboxBytes: 1 << 20})
			done, sink := make(chan struct{}), make([]byte, 1<<20)
			go func() { // ends with the connection
				defer close(done)
				for err := error(nil); err == nil; {
					_, err = s.far.Read(sink)
				}
			}()
			d, p := s.dispatch(), s.piece(frame(size))
			dried := s.Pulse().Dried
			got := testing.AllocsPerRun(200, func() {
				s.Offer(p, d)
				d.Flush()
				for dried++; s.Pulse().Dried < dried; {
					runtime.Gosched()
				}
			})
			if got != 0 {
				t.Errorf("sending %d bytes allocates %v times", size, got)
			}
			p.Buffer.Release()
			d.Drop()
			s.Close()
			s.Wait()
			<-done
		}
	})
}

func BenchmarkOutbox(b *testing.B) {
	for _, l := range links {
		for _, size := range []int{128, 10 << 10, 1 << 20} {
			b.Run(fmt.Sprint(l.name, "/", size), func(b *testing.B) {
				s := newStation(b, l, Config{OutboxBytes: 256 << 10})
				done, sink := make(chan struct{}), make([]byte, 1<<20)
				go func() { // ends with the connection
					defer close(done)
					for err := error(nil); err == nil; {
						_, err = s.far.Read(sink)
					}
				}()
				d, p := s.dispatch(), s.piece(frame(size))
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if s.Offer(p, d) == Parked {
						d.Wait(nil)
					}
				}
				d.Drop()
				s.Drain(nil)
				p.Buffer.Release()
				s.Close()
				s.Wait()
				<-done
			})
		}
	}
}

// TestLittlePiecesLeaveTogether where a write takes only one: over TLS each would be a record
// and a system call.
func TestLittlePiecesLeaveTogether(t *testing.T) {
	s := newStation(t, pipe, Config{OutboxBytes: 1 << 20})
	d := s.dispatch()
	var want []byte
	for _, size := range []int{2000, 2000, 40_000, 30_000, 2000, 100, 3000} {
		f := frame(size)
		want = append(want, f...)
		s.offer(d, f)
	}
	d.Drop()
	got := make([]byte, 1<<20) // larger than any write: a pipe hands over one write at a time
	for _, size := range []int{4000, 40_000, 30_000, 5100} {
		n, err := s.far.Read(got)
		if err != nil || n != size || !bytes.Equal(got[:n], want[:n]) {
			t.Fatalf("%d bytes came in one write (%v), want %d as they were queued", n, err, size)
		}
		want = want[n:]
	}
	s.finish(t)
}
