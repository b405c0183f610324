package hub

import "testing"

const testAckThreshold = 100

// TestAckSchedule_Threshold_DecidesWhenAckIsDue queues SENDs below and above the threshold.
func TestAckSchedule_Threshold_DecidesWhenAckIsDue(t *testing.T) {
	a := ackSchedule{unacked: testAckThreshold - 1}
	if a.next(testAckThreshold) {
		t.Error("an ACK is due below the threshold")
	}
	a.unacked++
	if !a.next(testAckThreshold) {
		t.Fatal("no ACK is due at the threshold")
	}
	if a.unacked != 0 {
		t.Errorf("%d bytes are unacknowledged after the ACK", a.unacked)
	}
}

// TestAckSchedule_Pending_DelaysNext checks that at most one ACK waits to be written, and that
// the next is due when it is written.
func TestAckSchedule_Pending_DelaysNext(t *testing.T) {
	a := ackSchedule{unacked: testAckThreshold}
	if !a.next(testAckThreshold) {
		t.Fatal("no ACK is due at the threshold")
	}
	a.unacked = 2 * testAckThreshold
	if a.next(testAckThreshold) {
		t.Error("an ACK is due while another is pending")
	}
	a.onWritten(false)
	if !a.next(testAckThreshold) {
		t.Error("no ACK is due after the pending one is written")
	}
}

// TestAckSchedule_NextNow_SkipsThreshold requests ACKs with and without SENDs to be
// acknowledged, and while another ACK is pending.
func TestAckSchedule_NextNow_SkipsThreshold(t *testing.T) {
	var a ackSchedule
	if a.nextNow() {
		t.Error("an ACK is due without a queued SEND")
	}
	a.unacked = 1
	if a.next(testAckThreshold) {
		t.Error("a request without a queued SEND is kept")
	}
	if !a.nextNow() {
		t.Fatal("no ACK is due for a queued SEND")
	}
	a.unacked = 1
	if a.nextNow() {
		t.Error("an ACK is due while another is pending")
	}
	a.onWritten(false)
	if !a.next(testAckThreshold) {
		t.Error("the requested ACK is not due after the pending one is written")
	}
}

// TestAckSchedule_Request_EndsWhenNothingIsLeft checks that a request waits for SENDs in
// flight, and ends when there is none to be acknowledged.
func TestAckSchedule_Request_EndsWhenNothingIsLeft(t *testing.T) {
	for _, test := range []struct {
		name     string
		inFlight bool
		want     bool
	}{{"SENDs in flight", true, true}, {"no SEND left", false, false}} {
		t.Run(test.name, func(t *testing.T) {
			a := ackSchedule{pending: true}
			a.nextNow()
			a.onWritten(test.inFlight)
			a.unacked = 1
			if got := a.next(testAckThreshold); got != test.want {
				t.Errorf("an ACK below the threshold is due: %v, want %v", got, test.want)
			}
		})
	}
}
