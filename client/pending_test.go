package client

import (
	"errors"
	"testing"
)

func TestPendingRequests_RemoveUnsent(t *testing.T) {
	var p pendingRequests
	first := addWaiter(&p, &p.list)
	second := addWaiter(&p, &p.list)
	removeWaiter(&p, &p.list, second)
	for i, want := range []error{nil, ErrProtocol} {
		if err := deliverReply(&p, &p.list, []uint64{1}); !errors.Is(err, want) {
			t.Errorf("reply %d: %v, want %v", i, err, want)
		}
	}
	if len(first) != 1 || len(second) != 0 {
		t.Error("the reply went to a request that was not sent")
	}
	third := addWaiter(&p, &p.list)
	p.close(ErrConnectionLost)
	removeWaiter(&p, &p.list, third) // its channel is closed already
	if addWaiter(&p, &p.list) != nil {
		t.Error("closed pendingRequests accept a request")
	}
}

// TestPendingRequests_ReplyAfterClose has replies to requests that have failed already. They
// are no protocol violation: messages can follow them.
func TestPendingRequests_ReplyAfterClose(t *testing.T) {
	var p pendingRequests
	reply := addWaiter(&p, &p.list)
	p.close(ErrConnectionLost)
	if _, ok := <-reply; ok {
		t.Error("a failed request got a reply")
	}
	if err := deliverReply(&p, &p.list, []uint64{1}); err != nil {
		t.Errorf("got %v", err)
	}
}
