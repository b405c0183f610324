package relay

import (
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// recordedVerdict is a verdictWaiter that records the fates that it gets.
type recordedVerdict struct{ fates []wire.Fate }

func (r *recordedVerdict) applyVerdict(_ *Verdicts, fate wire.Fate) { r.fates = append(r.fates, fate) }
func (r *recordedVerdict) failVerdict(*Verdicts)                    { r.fates = append(r.fates, wire.FateUncertain) }

// TestVerdicts_Apply_ByKey checks that a verdict reaches the message of its sender and seq alone,
// and none that was canceled.
func TestVerdicts_Apply_ByKey(t *testing.T) {
	var v Verdicts
	first, second := new(recordedVerdict), new(recordedVerdict)
	if v.Apply(wire.Verdict{Sender: 1, Seq: 1}) {
		t.Error("the zero value is not empty")
	}
	v.Fail()
	v.cancel(verdictKey{1, 2})
	v.await(verdictKey{1, 2}, first)
	v.await(verdictKey{2, 1}, second)
	if !v.Apply(wire.Verdict{Sender: 1, Seq: 2, Fate: wire.FateProcessed}) || v.Apply(wire.Verdict{Sender: 1, Seq: 1, Fate: wire.FateProcessed}) {
		t.Error("a message is not found by its own key alone")
	}
	v.cancel(verdictKey{1, 2})
	if v.Apply(wire.Verdict{Sender: 1, Seq: 2, Fate: wire.FateProcessed}) {
		t.Error("a canceled message is found")
	}
	v.Fail()
	if len(first.fates) != 1 || first.fates[0] != wire.FateProcessed || len(second.fates) != 1 || second.fates[0] != wire.FateUncertain {
		t.Errorf("the fates are %v and %v, want one processed and one uncertain", first.fates, second.fates)
	}
}
