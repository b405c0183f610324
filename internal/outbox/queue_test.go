package outbox

import (
	"slices"
	"testing"
)

// TestQueue_PriorityDuringWrite queues priority frames during a write that the connection then
// accepts only in part: the priority frames go before the rest of that write.
func TestQueue_PriorityDuringWrite(t *testing.T) {
	for _, written := range []int{0, 50, 100, 150, 200, 250} {
		tc := newTestConn(t, pipe, Config{})
		q := new(queue)
		push := func(size int, priority bool) {
			batch := tc.newBatch(frame(size))
			g := segmentOf(batch)
			if priority {
				q.pushPriority(&g)
			} else {
				q.push(&g)
			}
		}
		for range 3 {
			push(100, false)
		}
		q.buildVector(maxVector, 0)
		push(20, true)
		push(30, true)
		q.consume(written, nil, new(completions))
		want := []int{20, 30}
		if written%100 > 0 {
			want = slices.Insert(want, 0, 100) // the rest of an unfinished frame goes first
		}
		var got []int
		for _, g := range q.segments[q.head : q.head+q.promotePriority()] {
			got = append(got, g.to-g.from)
		}
		if !slices.Equal(got, want) {
			t.Errorf("with %d bytes of 300 written, segments of %v can be written, want %v", written, got, want)
		}
	}
}
