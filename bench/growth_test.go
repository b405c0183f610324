package main

import "testing"

// growthTestMessages is the number of messages of each sender. They take the server some of the
// hundredths of a second in which /proc counts.
const growthTestMessages = 20_000

func TestGrowthScenario_Hub(t *testing.T) {
	r := measureOnce(t, growthScenario([]int{10, 50}, map[string]int{"hub": growthTestMessages}), "hub")
	for _, n := range []int{10, 50} {
		if m := r.Rounds[0][growthSubject("hub", n)]; m == nil || m.Deliveries != 10*9*growthTestMessages {
			t.Errorf("%d connected: %+v", n, m)
		}
	}
	if _, ok := r.Ratios["CPU ÷ CPU with 10 connected"][growthSubject("hub", 50)]; !ok {
		t.Errorf("no ratio: %v", r.Ratios)
	}
}
