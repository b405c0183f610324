package main

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestChooseRounds_AllKinds checks that rounds have as many faults as wanted, each kind equally
// often, and that the seed decides.
func TestChooseRounds_AllKinds(t *testing.T) {
	for seed := range uint64(100) {
		rounds := chooseRounds(rand.New(rand.NewPCG(seed, 0)), 3*len(faultKinds))
		counts := make(map[int]int)
		for _, kinds := range rounds {
			if len(kinds) < 1 || len(kinds) > 2 {
				t.Errorf("a round of %d faults", len(kinds))
			}
			for _, kind := range kinds {
				counts[kind]++
			}
		}
		for kind := range faultKinds {
			if counts[kind] != 3 {
				t.Errorf("%q %d times", faultKinds[kind].name, counts[kind])
			}
		}
		if again := chooseRounds(rand.New(rand.NewPCG(seed, 0)), 3*len(faultKinds)); fmt.Sprint(again) != fmt.Sprint(rounds) {
			t.Errorf("seed %d: %v, then %v", seed, rounds, again)
		}
	}
}
