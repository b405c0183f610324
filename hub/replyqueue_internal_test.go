package hub

import (
	"testing"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// TestRepliesReadLimit_IsLowWhenRequestsAreExpected checks how much is read at once, without and
// with a rate limit.
func TestRepliesReadLimit_IsLowWhenRequestsAreExpected(t *testing.T) {
	for _, test := range []struct {
		expected    bool
		limit, want int
	}{
		{false, 0, 0},
		{false, 2 * maxRequestReadBytes, 2 * maxRequestReadBytes},
		{true, 0, maxRequestReadBytes},
		{true, 2 * maxRequestReadBytes, maxRequestReadBytes},
		{true, 100, 100},
	} {
		if got := repliesReadLimit(test.limit, test.expected); got != test.want {
			t.Errorf("%+v: %d bytes", test, got)
		}
	}
}

// TestReplies_Wait_EndsWhenRepliesAreWritten blocks the read loop by one reply less than
// maxPendingReplies, and then by one more. It holds a queue until all replies are written.
func TestReplies_Wait_EndsWhenRepliesAreWritten(t *testing.T) {
	c := newTestConn(t, Config{})
	q := replyQueues.Get().(*replyQueue)
	r := replies{queue: q}
	q.pending.Store(maxPendingReplies - 1)
	if r.blocked() {
		t.Error("blocked by few replies")
	}
	if err := r.wait(c.sock, &c.done, c.hub.closing); err != nil {
		t.Error(err)
	}
	q.pending.Add(1)
	if !r.blocked() {
		t.Error("not blocked")
	}
	r.release()
	if r.queue != q {
		t.Error("the queue is given back while replies are pending")
	}
	go q.HandleEvent(1, outbox.EventWritten, 0, 1) // ends at once
	if err := r.wait(c.sock, &c.done, c.hub.closing); err != nil {
		t.Error(err)
	}
	q.HandleEvent(1, outbox.EventLost, 0, maxPendingReplies-1)
	if r.release(); r.queue != nil {
		t.Error("the queue is kept although all replies are written")
	}
}
