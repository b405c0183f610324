package client

import "testing"

// TestAckState_TickAcksOnlyOlderMessages: a tick does not extend the ACK that half a window has
// just caused.
func TestAckState_TickAcksOnlyOlderMessages(t *testing.T) {
	var a ackState
	a.attach(new(conn), 100, true)
	receive := func(n uint64) { // n messages in all, each received at once
		a.onRead(position{frames: n, bytes: 60 * n}, false, false)
		a.received = a.read
	}
	receive(1)
	if upTo, _ := a.nextAck(true); upTo != 1 {
		t.Fatalf("half of the window causes ACK %d, want 1", upTo)
	}
	a.pending = false
	a.onTick(a.read)
	receive(2)
	a.nextAck(true)
	a.pending = false
	receive(3)
	if due, more := a.onTick(a.read); due || !more {
		t.Errorf("due %v, more %v at a tick after an ACK, want only more", due, more)
	}
	if due, _ := a.onTick(a.read); !due {
		t.Error("a tick does not acknowledge messages from before the last tick")
	}
}

// TestAckState_Due: an ACK is due at half of the window, or when a sender waits and nothing is
// left to receive.
func TestAckState_Due(t *testing.T) {
	for name, test := range map[string]struct {
		frames, bytes uint64 // received and not acknowledged
		urgent, more  bool
		empty         bool
		want          bool
	}{
		"nothing":                    {urgent: true, empty: true},
		"less than half":             {frames: 1, bytes: 49, empty: true},
		"half of the window":         {frames: 1, bytes: 50, want: true},
		"urgent":                     {frames: 1, bytes: 1, urgent: true, empty: true, want: true},
		"urgent, and more to read":   {frames: 1, bytes: 1, urgent: true, empty: true, more: true},
		"urgent, and unread ones":    {frames: 1, bytes: 1, urgent: true},
		"the maximum of urgent ones": {frames: maxUrgent, bytes: 1, urgent: true, more: true, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			var a ackState
			a.attach(new(conn), 100, true)
			a.onRead(position{test.frames, test.bytes}, test.urgent, test.more)
			a.received = a.read
			if got := a.due(test.empty); got != test.want {
				t.Errorf("due is %v, want %v", got, test.want)
			}
			a.pending = true
			if a.due(test.empty) {
				t.Error("an ACK is due while another is not written")
			}
		})
	}
}
