package main

import (
	"slices"
	"testing"
)

func TestLatencyScenario_EachSystem(t *testing.T) {
	for _, system := range append(slices.Clone(librarySystems), "forward") {
		t.Run(system, func(t *testing.T) {
			measureOnce(t, latencyScenario("test", 128, 100), system)
		})
	}
}
