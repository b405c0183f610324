package client

import "testing"

// TestSendWindow_CanSend: the credit limits the cost in flight, a single message may exceed it,
// and when the credit was used up, half of it must be free again.
func TestSendWindow_CanSend(t *testing.T) {
	for name, test := range map[string]struct {
		cost     int
		inFlight int
		blocked  bool // the credit was used up
		want     bool
	}{
		"room":                       {cost: 40, inFlight: 60, want: true},
		"no room":                    {cost: 41, inFlight: 60},
		"larger than the credit":     {cost: 101, want: true},
		"blocked, half is free":      {cost: 10, inFlight: 50, blocked: true, want: true},
		"blocked, less than half":    {cost: 10, inFlight: 51, blocked: true},
		"blocked, half is too small": {cost: 51, inFlight: 50, blocked: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := sendWindow{limits: sendLimits{credit: 100}, inFlight: test.inFlight, creditBlocked: test.blocked}
			if got := w.canSend(&pendingSend{cost: test.cost}); got != test.want || w.creditBlocked == test.want {
				t.Errorf("canSend is %v, creditBlocked %v; want %v, %v", got, w.creditBlocked, test.want, !test.want)
			}
		})
	}
}

// TestSendWindow_MaxReports: a report is pending until it has come, also after the ACK.
func TestSendWindow_MaxReports(t *testing.T) {
	w := sendWindow{limits: sendLimits{credit: 100, maxReports: 1}}
	reported, plain := &pendingSend{cost: 1, wantsReport: true}, &pendingSend{cost: 1}
	w.onSent(reported)
	w.onAcked(reported)
	if w.canSend(reported) || !w.canSend(plain) {
		t.Error("while a report is pending, only messages without a report can be sent")
	}
	w.onSent(plain)
	w.onUnsent(plain)
	w.pendingReports--
	if !w.canSend(reported) || w.inFlight != 0 {
		t.Errorf("cannot send after the report, with %d in flight", w.inFlight)
	}
}

// TestSendWindow_ShouldProbe: a probe is needed once, and only if the hub sends no ACK by itself.
func TestSendWindow_ShouldProbe(t *testing.T) {
	w := sendWindow{limits: sendLimits{credit: 100}}
	for inFlight, want := range map[int]bool{0: false, 1: true, 24: true, 25: false} {
		w.inFlight, w.probed = inFlight, false
		if got := w.shouldProbe(); got != want {
			t.Errorf("with %d in flight: %v, want %v", inFlight, got, want)
		}
		if w.shouldProbe() {
			t.Errorf("with %d in flight: two probes without an ACK between them", inFlight)
		}
	}
}
