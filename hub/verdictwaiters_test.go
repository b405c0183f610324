package hub

import "testing"

// TestVerdictWaiters_Find_ByKey adds, finds and removes trackers by the sender and the seq of
// their message.
func TestVerdictWaiters_Find_ByKey(t *testing.T) {
	var w verdictWaiters
	first, second := new(deliveryTracker), new(deliveryTracker)
	if w.find(verdictKey{1, 1}) != nil || len(w.all()) != 0 {
		t.Error("the zero value is not empty")
	}
	w.remove(verdictKey{1, 1})
	w.add(verdictKey{1, 2}, first)
	w.add(verdictKey{2, 1}, second)
	if w.find(verdictKey{1, 2}) != first || w.find(verdictKey{2, 1}) != second || w.find(verdictKey{1, 1}) != nil {
		t.Error("a tracker is not found by its own key alone")
	}
	w.remove(verdictKey{1, 2})
	if all := w.all(); w.find(verdictKey{1, 2}) != nil || len(all) != 1 || all[0] != second {
		t.Errorf("%d trackers are left after one of two is removed", len(all))
	}
}
