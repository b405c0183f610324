package command

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"
)

const (
	// runtimeMemory is what the process takes besides what it holds for clients, in
	// bytes: the program, the runtime, and garbage between two collections.
	runtimeMemory = 64 << 20

	// connectionMemory is what a connection may take beyond the budget, in bytes: 4.5 KiB were
	// measured for an idle one, and 12 for one that does not read its answers (docs/BENCHMARKS.md).
	// A limit that thousands of those come near has the runtime look for garbage all the time.
	connectionMemory = 24 << 10

	// tlsConnectionMemory is that of a connection over TLS: 15 KiB are in use while it idles, and 29 when it has ever brought
	// a record of 16 KiB, for which crypto/tls keeps a buffer (docs/OPERATIONS.md).
	tlsConnectionMemory = 40 << 10
)

// gcPercent is how much garbage the Go runtime lets gather, as a part of what is in use: half of its default, because the way of a message
// makes next to none, so that it costs nothing that can be measured, and idle connections over TLS take a seventh less (docs/decisions/0010).
const gcPercent = 50

// setGCPercent has the runtime do so. An operator's GOGC is left alone.
func setGCPercent() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// setMemoryLimit tells the Go runtime how much memory the hub is meant to take, so
// that buffers that were given back are freed before new ones are made of another
// size: without it, a hub that was told to hold 64 MiB could be driven to 388. An
// operator's GOMEMLIMIT is left alone. It returns the limit that it has set, which
// a later call takes as ours, to change it; 0 is none.
func setMemoryLimit(logger *slog.Logger, previous, maxQueued int64, clients int, usesTLS bool) int64 {
	if current := debug.SetMemoryLimit(-1); current != math.MaxInt64 && current != previous {
		return 0
	}
	perConnection := int64(connectionMemory)
	if usesTLS {
		perConnection = tlsConnectionMemory
	}
	limit := maxQueued + maxQueued/4 + runtimeMemory + int64(clients)*perConnection
	debug.SetMemoryLimit(limit)
	logger.Debug("memory limit of the runtime", "limit", formatSize(limit))
	return limit
}
