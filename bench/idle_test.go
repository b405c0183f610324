package main

import "testing"

func TestIdleScenario_EachSystem(t *testing.T) {
	for _, system := range librarySystems {
		t.Run(system, func(t *testing.T) {
			measureOnce(t, idleScenario(2000), system)
		})
	}
}
