package main

import "testing"

func TestFullScenario_HasFigures(t *testing.T) {
	measureOnce(t, fullScenario(workload{clients: 20, messages: 200, size: 100_000, verify: "full"}), "hub")
}
