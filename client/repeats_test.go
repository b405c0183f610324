package client

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/wire"
)

const testSender = firstClusterID | 5

// isRepeat is repeats.isRepeat for a message of testSender.
func isRepeat(r *repeats, seq, time uint64) bool {
	return r.isRepeat(&wire.Deliver{Sender: testSender, Seq: seq, Time: time})
}

func TestRepeats_OnlyWhatCameBefore(t *testing.T) {
	var r repeats
	r.reset(true)
	for i, step := range []struct {
		seq, time uint64
		want      bool
	}{
		{5, 10, false}, {7, 20, false},
		{5, 30, true}, {6, 30, false}, {7, 30, true}, {6, 31, true}, // sent again, and 6 was lost
		{8, 40, false}, {8, 40, false}, // one message that names the receiver twice
		{8, 50, true},
		{100_000, 60, false}, {8, 70, false}, // not known any more
		{100_000, 80, true}, {99_999, 80, false}, {99_999, 90, true},
	} {
		if got := isRepeat(&r, step.seq, step.time); got != step.want {
			t.Errorf("step %d: seq %d is a repeat: %v", i, step.seq, got)
		}
	}
}

func TestRepeats_NeverARepeat(t *testing.T) {
	for name, d := range map[string]wire.Deliver{
		"granted id":    {Sender: 5, Seq: 1},
		"version 1":     {Sender: testSender},
		"wants verdict": {Sender: testSender, Seq: 1, Flags: wire.DeliverWantVerdict},
	} {
		var r repeats
		r.reset(true)
		for d.Time = range uint64(3) {
			if r.isRepeat(&d) {
				t.Errorf("%s: a repeat", name)
			}
		}
	}
}

func TestRepeats_MemoryIsBounded(t *testing.T) {
	var r repeats
	r.reset(true)
	for sender := range uint64(5 * maxRepeatSenders) {
		r.isRepeat(&wire.Deliver{Sender: firstClusterID + sender, Seq: 1, Time: 1})
		r.isRepeat(&wire.Deliver{Sender: testSender, Seq: 1 + sender, Time: 1})
		if n := len(r.recent) + len(r.aged); n > maxRepeatSenders {
			t.Fatalf("%d senders", n)
		}
	}
	if !isRepeat(&r, 5*maxRepeatSenders-1, 2) {
		t.Error("a sender that sends all the time is forgotten")
	}
}

// TestRepeats_Model compares with a set of all seqs.
func TestRepeats_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r repeats
		r.reset(true)
		came, highest := make(map[uint64]bool), uint64(0)
		for time := range uint64(rapid.IntRange(1, 300).Draw(t, "messages")) {
			seq := uint64(max(1, int(highest)+rapid.IntRange(-2*maxRepeatWindow, 300).Draw(t, "step")))
			got := isRepeat(&r, seq, time+1)
			near := highest < seq+maxRepeatWindow-64
			if got && !came[seq] || near && got != came[seq] {
				t.Fatalf("seq %d of %d is a repeat: %v, came before: %v", seq, highest, got, came[seq])
			}
			came[seq] = true
			highest = max(highest, seq)
		}
	})
}
