package socket

import (
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// Options of FuzzReader.
const (
	fuzzRetain       = 1 << iota // frames are retained to the end
	fuzzNoReadMemory             // there is no memory for reads
	fuzzSmallFrames              // only small frames are allowed
)

// FuzzReader cuts a stream at any place. Next must return the frames that a parse of the whole
// stream finds, and all memory must be released.
func FuzzReader(f *testing.F) {
	f.Add(smallStream(), []byte{1}, uint32(0), byte(0))
	f.Add(smallStream(), []byte{0, 3, 255}, uint32(readSize+1), byte(fuzzRetain))
	f.Add(smallStream(), []byte{200}, uint32(readSize), byte(fuzzNoReadMemory))
	f.Add(frame(5000)[:4999], []byte{60, 9}, uint32(3000), byte(fuzzRetain|fuzzNoReadMemory))
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1}, []byte{}, uint32(0), byte(fuzzSmallFrames))
	f.Fuzz(func(t *testing.T, stream, cuts []byte, large uint32, options byte) {
		if large > 0 { // a fuzzer rarely finds a whole large frame by itself
			stream = slices.Concat(frame(wire.LengthSize+int(large%200_000)), stream)
		}
		reads, bodies := newTestBudget(readSize), newTestBudget(1<<20)
		config := &Config{MaxLength: 1 << 18, FrameTimeout: testTimeout, Outbox: outbox.Config{MaxBytes: 1}}
		config.ReadAccount, config.RetainsFrames = reads.account, options&fuzzRetain != 0
		if options&fuzzSmallFrames != 0 {
			config.MaxLength = 300
		}
		var reserved *body.Buffer
		if options&fuzzNoReadMemory != 0 {
			reserved = reads.account.TryAcquire(readSize)
		}
		runFuzzedReader(t, config, testHandler{account: bodies.account}, stream, cuts)
		if reserved != nil {
			reserved.Release()
		}
		if r, b := used(reads.Budget), used(bodies.Budget); r != 0 || b != 0 {
			t.Errorf("%d and %d bytes are in use at the end", r, b)
		}
	})
}

func runFuzzedReader(t *testing.T, config *Config, handler Handler, stream, cuts []byte) {
	c := New(&scriptedConn{reads: script(stream, cuts)}, config, handler)
	var frames []testFrame
	var retained []*body.Buffer
	err := c.Fill()
	for ; err == nil; err = c.Fill() {
		f, ok, e := readNext(c)
		for ; ok; f, ok, e = readNext(c) {
			frames = append(frames, testFrame{f.Type, f.Payload, f.OwnsBuffer})
			if config.RetainsFrames {
				f.Buffer.Retain()
				retained = append(retained, f.Buffer)
			} else {
				frames[len(frames)-1].Payload = slices.Clone(f.Payload)
			}
		}
		if err = e; err != nil {
			break
		}
	}
	c.ReleaseAll()
	compareFrames(t, stream, config.MaxLength, frames, err)
	for _, b := range retained {
		b.Release()
	}
}

// script cuts a stream into reads of the given lengths, which it repeats. It makes at most
// some thousand reads to keep a run short.
func script(stream, cuts []byte) (reads []scriptedRead) {
	minLen := 1 + len(stream)/2000
	for i := 0; len(stream) > 0; i++ {
		n := len(stream)
		if len(cuts) > 0 {
			c := int(cuts[i%len(cuts)])
			n = min(n, minLen+c*c)
		}
		reads = append(reads, scriptedRead{bytes: stream[:n]})
		stream = stream[n:]
	}
	return reads
}
