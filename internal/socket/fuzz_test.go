package socket

import (
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// What the options of FuzzReader say.
const (
	fuzzKeep    = 1 << iota // frames are retained to the end
	fuzzNoReads             // there is no memory for reads
	fuzzSmall               // only small frames are allowed
)

// FuzzReader cuts a stream anywhere: what Next returns must be what parsing the
// whole stream at once does, and all memory must come back.
func FuzzReader(f *testing.F) {
	f.Add(smallStream(), []byte{1}, uint32(0), byte(0))
	f.Add(smallStream(), []byte{0, 3, 255}, uint32(readSize+1), byte(fuzzKeep))
	f.Add(smallStream(), []byte{200}, uint32(readSize), byte(fuzzNoReads))
	f.Add(frame(5000)[:4999], []byte{60, 9}, uint32(3000), byte(fuzzKeep|fuzzNoReads))
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1}, []byte{}, uint32(0), byte(fuzzSmall))
	f.Fuzz(func(t *testing.T, stream, cuts []byte, large uint32, options byte) {
		if large > 0 { // a fuzzer hardly ever finds a whole large frame by itself
			stream = slices.Concat(frame(wire.LengthSize+int(large%200_000)), stream)
		}
		reads, bodies := newPurse(readSize), newPurse(1<<20)
		config := &Config{MaxLength: 1 << 18, FrameTimeout: patience, OutboxBytes: 1}
		config.Reads, config.Keep = reads.account, options&fuzzKeep != 0
		if options&fuzzSmall != 0 {
			config.MaxLength = 300
		}
		var taken *body.Buffer
		if options&fuzzNoReads != 0 {
			taken = reads.account.TryDraw(readSize)
		}
		fuzzed(t, config, payer{account: bodies.account}, stream, cuts)
		if taken != nil {
			taken.Release()
		}
		if r, b := used(reads.Budget), used(bodies.Budget); r != 0 || b != 0 {
			t.Errorf("%d and %d bytes are drawn at the end", r, b)
		}
	})
}

func fuzzed(t *testing.T, config *Config, owner Owner, stream, cuts []byte) {
	c := New(&scripted{reads: script(stream, cuts)}, config, owner)
	var frames []got
	var kept []*body.Buffer
	err := c.Fill()
	for ; err == nil; err = c.Fill() {
		f, ok, e := next(c)
		for ; ok; f, ok, e = next(c) {
			frames = append(frames, got{f.Type, f.Payload, f.Alone})
			if config.Keep {
				f.Buffer.Retain()
				kept = append(kept, f.Buffer)
			} else {
				frames[len(frames)-1].Payload = slices.Clone(f.Payload)
			}
		}
		if err = e; err != nil {
			break
		}
	}
	c.Drop()
	compare(t, stream, config.MaxLength, frames, err)
	for _, b := range kept {
		b.Release()
	}
}

// script cuts a stream into reads of lengths that cuts gives, again and again;
// into no more than some thousand, so that a run does not take long.
func script(stream, cuts []byte) (reads []scriptedRead) {
	least := 1 + len(stream)/2000
	for i := 0; len(stream) > 0; i++ {
		n := len(stream)
		if len(cuts) > 0 {
			c := int(cuts[i%len(cuts)])
			n = min(n, least+c*c)
		}
		reads = append(reads, scriptedRead{bytes: stream[:n]})
		stream = stream[n:]
	}
	return reads
}
