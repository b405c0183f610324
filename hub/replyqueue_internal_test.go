package hub

import (
	"testing"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// TestReplies_ReadLimit_IsLowWhenRequestsAreExpected checks how much is read at once after a
// read with requests, after an idle time, and otherwise, without and with a rate limit.
func TestReplies_ReadLimit_IsLowWhenRequestsAreExpected(t *testing.T) {
	for _, test := range []struct {
		requested, wasIdle bool
		limit, want        int
	}{
		{false, false, 0, 0},
		{false, false, 2 * maxRequestReadBytes, 2 * maxRequestReadBytes},
		{true, false, 0, maxRequestReadBytes},
		{true, false, 2 * maxRequestReadBytes, maxRequestReadBytes},
		{true, false, 100, 100},
		{false, true, 0, maxRequestReadBytes},
	} {
		r := replies{requestedInLastRead: test.requested}
		if got := r.readLimit(test.limit, test.wasIdle); got != test.want {
			t.Errorf("%+v: %d bytes", test, got)
		}
		if got := r.readLimit(test.limit, false); got != test.limit {
			t.Errorf("%+v: %d bytes in the read after, want %d", test, got, test.limit)
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
