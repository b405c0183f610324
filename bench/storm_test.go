package main

import "testing"

func TestStormScenario_EachSystem(t *testing.T) {
	for _, system := range librarySystems {
		t.Run(system, func(t *testing.T) {
			measureOnce(t, stormScenario(200), system)
		})
	}
}
