package main

import "testing"

func TestRepeatScenario_MeasuresHeap(t *testing.T) {
	r := measureOnce(t, repeatScenario(2), "hub")
	if m := r.Rounds[0]["hub"]; m.HeapFirst <= 0 || m.HeapLast <= 0 {
		t.Errorf("%+v", m)
	}
}
