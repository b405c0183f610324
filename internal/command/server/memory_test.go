package server

import (
	"log/slog"
	"math"
	"runtime/debug"
	"testing"
)

func TestSetMemoryLimit_FollowsClients(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)

	first := setMemoryLimit(logger, 0, 1<<30, 1000, false)
	second := setMemoryLimit(logger, first, 1<<30, 2000, false)
	if current := debug.SetMemoryLimit(-1); current != second || second != first+1000*connectionMemory {
		t.Errorf("limits of %d, %d, and finally %d", first, second, current)
	}

	if got := setMemoryLimit(logger, second, 1<<30, 2000, true); got != second+2000*(tlsConnectionMemory-connectionMemory) {
		t.Errorf("with TLS a limit of %d, without %d", got, second)
	}
	debug.SetMemoryLimit(second)

	const operators = 3 << 30
	debug.SetMemoryLimit(operators)
	if got := setMemoryLimit(logger, 0, 1<<30, 1000, false); got != 0 || debug.SetMemoryLimit(-1) != operators {
		t.Errorf("the limit of the operator was changed to %d", debug.SetMemoryLimit(-1))
	}
}

func TestSetGCPercent_KeepsGOGC(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	for operators, want := range map[string]int{"": gcPercent, "75": 100} {
		t.Setenv("GOGC", operators)
		debug.SetGCPercent(100) // a value that setGCPercent must change
		setGCPercent()
		if got := debug.SetGCPercent(100); got != want {
			t.Errorf("with GOGC=%q at %d, want %d", operators, got, want)
		}
	}
}
