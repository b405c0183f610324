package socket

import (
	"slices"
	"testing"
)

// TestQueue_OvertakingBehindWhatIsWritten has frames overtake while others are being written, of which the
// connection then takes only some: what is left of those is overtaken as well.
func TestQueue_OvertakingBehindWhatIsWritten(t *testing.T) {
	for _, written := range []int{0, 50, 100, 150, 200, 250} {
		s := newStation(t, pipe, Config{})
		q := newQueue(nil)
		push := func(size int, ahead bool) {
			p := s.piece(frame(size))
			g := segmentOf(p)
			if ahead {
				q.overtake(&g)
			} else {
				q.push(&g)
			}
		}
		for range 3 {
			push(100, false)
		}
		q.gather(vectorMost)
		push(20, true)
		push(30, true)
		q.advance(written, nil)
		want := []int{20, 30}
		if written%100 > 0 {
			want = slices.Insert(want, 0, 100) // the rest of what was begun goes first
		}
		var got []int
		for _, g := range q.segments[q.head : q.head+q.leaders()] {
			got = append(got, g.to-g.from)
		}
		if !slices.Equal(got, want) {
			t.Errorf("with %d bytes of 300 written, segments of %v may leave, want %v", written, got, want)
		}
	}
}
