package outbox

import (
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
)

// newSegment returns a segment of frames in a buffer without an account.
func newSegment(frames ...[]byte) segment {
	data := slices.Concat(frames...)
	batch := Batch{Buffer: body.Get(len(data)), To: len(data), Frames: len(frames), Messages: true, First: 3, Receiver: 2}
	copy(batch.Buffer.Bytes(), data)
	return segmentOf(&batch)
}

func TestSegment_TrimFrames(t *testing.T) {
	for _, test := range []struct{ frames, size, left int }{{0, 0, 60}, {1, 10, 50}, {2, 30, 30}, {3, 60, 0}} {
		s := newSegment(frame(10), frame(20), frame(30))
		if size := s.trimFrames(test.frames); size != test.size {
			t.Errorf("%d frames have %d bytes, want %d", test.frames, size, test.size)
		}
		if s.to-s.from != test.left || s.frames != 3-test.frames || int(s.first) != 3+test.frames || s.deliveries() != s.frames {
			t.Errorf("after %d frames: %d bytes, %d frames from number %d", test.frames, s.to-s.from, s.frames, s.first)
		}
	}
	s := segment{frames: 3} // its memory was dropped
	if size := s.trimFrames(2); size != 0 || s.frames != 1 || s.first != 2 {
		t.Errorf("without memory: %d bytes, %d frames from number %d", size, s.frames, s.first)
	}
}

func TestSegment_AppendSkips(t *testing.T) {
	s := segment{frames: 2*maxSkips + 5, first: 10, messages: true, reliable: true, options: &Options{Expires: 1}}
	first, sum := s.first, 0
	for _, part := range appendSkips(nil, s) {
		if !part.isSkips() || part.expires() || part.deliveries() != 0 || !part.reliable || part.first != first {
			t.Errorf("SKIPs from number %d: %+v, want them from %d", part.first, part, first)
		}
		first += int32(part.frames)
		sum += part.frames
		part.buffer.Release()
	}
	if sum != s.frames {
		t.Errorf("%d SKIPs for %d frames", sum, s.frames)
	}
}

func TestSegment_BatchIsInverse(t *testing.T) {
	s := newSegment(frame(10), frame(20))
	batch := s.batch()
	if again := segmentOf(&batch); again != s {
		t.Errorf("%+v, want %+v", again, s)
	}
}
