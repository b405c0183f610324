package link

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// errTest is the error of a test that breaks a link.
var errTest = errors.New("broken by the test")

// brokenStream is one call of OnBreak.
type brokenStream struct {
	generation, sent uint64
	err              error
}

// side is a link at one end of a testPair, and what it has passed on.
type side struct {
	t    *testing.T
	link *Link
	stop chan struct{}
	done chan struct{}

	// Guarded by mu.
	mu          sync.Mutex
	carry       func(frame []byte) bool // called with each frame before it arrives; false: it is lost
	delay       time.Duration           // of frames that this side sends, beyond testDelay
	sendErr     error
	received    []byte // since the last break
	broken      []brokenStream
	established int
	onData      func(p []byte) error
	frames      int       // sent
	arrival     time.Time // of the last frame that was sent
}

// testPair is two sides, whose frames arrive 100 µs after they were sent.
type testPair struct{ a, b *side }

// onPair runs test in a bubble, with two links that Run. configure can change both
// configurations.
func onPair(t *testing.T, configure func(*Config), test func(t *testing.T, p *testPair)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &testPair{a: &side{t: t}, b: &side{t: t}}
		p.a.start(p.b, configure, 0)
		p.b.start(p.a, configure, 0)
		defer p.b.end()
		defer p.a.end()
		test(t, p)
	})
}

const (
	testDelay    = 100 * time.Microsecond
	testMaxFrame = 1 << 10
)

var testPrefix = []byte("prefix")

// start runs a new link.
func (s *side) start(to *side, configure func(*Config), generation uint64) {
	config := Config{
		Prefix: testPrefix, MaxFrame: testMaxFrame,
		Send:   func(frame []byte) error { return s.send(to, frame) },
		OnData: s.handleData, OnBreak: s.handleBreak, OnEstablished: s.handleEstablished,
	}
	if configure != nil {
		configure(&config)
	}
	l, stop, done := New(config, generation), make(chan struct{}), make(chan struct{})
	s.mu.Lock()
	s.link, s.stop, s.done = l, stop, done
	s.mu.Unlock()
	go func() { // until end
		defer close(done)
		l.Run(stop)
	}()
}

// end waits until Run has returned, and until frames on their way have arrived.
func (s *side) end() {
	close(s.stop)
	<-s.done
	time.Sleep(2 * testDelay)
	synctest.Wait()
}

func (s *side) send(to *side, frame []byte) error {
	s.mu.Lock()
	s.frames++
	err := s.sendErr
	s.mu.Unlock()
	if err != nil {
		return err
	}
	own, ok := bytes.CutPrefix(bytes.Clone(frame), testPrefix)
	if !ok || len(frame) > testMaxFrame {
		s.t.Errorf("a frame of %d bytes begins with %q", len(frame), frame[:len(testPrefix)])
	}
	time.AfterFunc(s.untilArrival(), func() {
		if s.carries(own) {
			to.current().Handle(own)
		}
	})
	return nil
}

// carries reports whether a frame arrives.
func (s *side) carries(frame []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.carry == nil || s.carry(frame)
}

// untilArrival returns after which time the next frame arrives. Those sent at once arrive in order.
func (s *side) untilArrival() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now().Add(testDelay + s.delay)
	if !at.After(s.arrival) {
		at = s.arrival.Add(1)
	}
	s.arrival = at
	return time.Until(at)
}

// current returns the link, which a test can replace.
func (s *side) current() *Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link
}

func (s *side) handleData(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, p...)
	if s.onData != nil {
		return s.onData(p)
	}
	return nil
}

func (s *side) handleBreak(generation, sent uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = append(s.broken, brokenStream{generation, sent, err})
	s.received = nil
}

func (s *side) handleEstablished() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.established++
}

// setCarry sets what happens to the frames that this side sends.
func (s *side) setCarry(carry func(frame []byte) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carry = carry
}

func (s *side) setDelay(delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = delay
}

func (s *side) setSendErr(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendErr = err
}

// write appends p and flushes.
func (s *side) write(p []byte) (generation, end uint64) {
	generation, end = s.link.Append(p, nil, 0, 0)
	s.link.Flush()
	return generation, end
}

// wantReceived checks what has arrived since the last break, after a time.
func (s *side) wantReceived(after time.Duration, want []byte) {
	s.t.Helper()
	time.Sleep(after)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(s.received, want) {
		s.t.Errorf("%d bytes have arrived, want %d; equal up to %d", len(s.received), len(want), commonPrefix(s.received, want))
	}
}

// wantBroken checks all calls of OnBreak so far.
func (s *side) wantBroken(want ...brokenStream) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.broken) != len(want) {
		s.t.Errorf("broken are %v, want %v", s.broken, want)
		return
	}
	for i, b := range s.broken {
		if b.generation != want[i].generation || b.sent != want[i].sent || !errors.Is(b.err, want[i].err) {
			s.t.Errorf("broken is %v, want %v", b, want[i])
		}
	}
}

// commonPrefix returns how many bytes are equal.
func commonPrefix(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// numbered returns n bytes that differ from those around them.
func numbered(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 >> (i % 5))
	}
	return p
}

// lose returns a carry that loses the frames with payload whose numbers are given, from 0.
func lose(numbers ...int) func(frame []byte) bool {
	n := -1
	return func(frame []byte) bool {
		if len(frame) == headerSize {
			return true
		}
		n++
		for _, number := range numbers {
			if n == number {
				return false
			}
		}
		return true
	}
}

// loseAll is a carry that loses all frames.
func loseAll([]byte) bool { return false }
