package presence

import (
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

func idRange(first, n uint64) []uint64 {
	ids := make([]uint64, n)
	for i := range ids {
		ids[i] = first + uint64(i)
	}
	return ids
}

// TestUpdate_Append_SplitsIntoFrames checks the frames of small and large updates: only the first
// frame is a snapshot, all but the last announce more, none has more ids than a frame can have,
// and Len is enough for them.
func TestUpdate_Append_SplitsIntoFrames(t *testing.T) {
	const page = wire.MaxPageIDs
	for name, test := range map[string]struct {
		update Update
		frames int
	}{
		"empty snapshot":           {Update{revision: 1, snapshot: true}, 1},
		"one change":               {Update{revision: 7, left: []uint64{3}}, 1},
		"a full frame":             {Update{revision: 7, joined: idRange(1, page-1), left: idRange(page, 1)}, 1},
		"one id more":              {Update{revision: 7, joined: idRange(1, page), left: idRange(page+1, 1)}, 2},
		"a large snapshot":         {Update{revision: 7, snapshot: true, joined: idRange(1, 3*page)}, 3},
		"joins and leaves overlap": {Update{revision: 7, joined: idRange(1, page+page/2), left: idRange(4*page, page)}, 3},
	} {
		b, frames := test.update.Append([]byte("before"))
		b = b[len("before"):]
		if frames != test.frames || len(b) > test.update.Len() {
			t.Errorf("%s: %d frames, want %d; %d bytes, Len is %d", name, frames, test.frames, len(b), test.update.Len())
		}
		var joined, left []uint64
		n := 0
		for frame := range wire.Frames(b) {
			p, err := wire.ParsePresence(frame[wire.HeaderSize:])
			if err != nil {
				t.Fatal(err)
			}
			snapshot, more := p.Flags&wire.PresenceSnapshot != 0, p.Flags&wire.PresenceMore != 0
			if snapshot != (test.update.snapshot && n == 0) || more != (n < frames-1) || p.Revision != test.update.revision || p.Joined.Len()+p.Left.Len() > page {
				t.Errorf("%s: frame %d has flags %#x, revision %d, %d ids", name, n, p.Flags, p.Revision, p.Joined.Len()+p.Left.Len())
			}
			joined, left = slices.AppendSeq(joined, p.Joined.All()), slices.AppendSeq(left, p.Left.All())
			n++
		}
		if n != frames || !slices.Equal(joined, test.update.joined) || !slices.Equal(left, test.update.left) {
			t.Errorf("%s: %d frames with %d joined and %d left", name, n, len(joined), len(left))
		}
	}
}
