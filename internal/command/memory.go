package command

import (
	"log/slog"
	"math"
	"runtime/debug"
)

const (
	// runtimeMemory is what the process takes besides what it holds for clients, in
	// bytes: the program, the runtime, and garbage between two collections.
	runtimeMemory = 64 << 20

	// connectionMemory is what a connection may take beyond the budget, in bytes: 4.6 KiB
	// were measured for an idle one, and 13 for one that does not read its answers (docs/BENCHMARKS.md), without
	// garbage. A limit that thousands of those come near has the runtime look for garbage all the time.
	connectionMemory = 24 << 10

	// secureMemory is that of a connection over TLS, which has ciphers, buffers and a larger stack: 21 KiB
	// are in use while it idles (docs/OPERATIONS.md). A limit below what is in use would have the runtime look for
	// garbage without end.
	secureMemory = 32 << 10
)

// limitMemory tells the Go runtime how much memory the hub is meant to take, so
// that buffers that were given back are freed before new ones are made of another
// size: without it, a hub that was told to hold 64 MiB could be driven to 388. An
// operator's GOMEMLIMIT is left alone. It returns the limit that it has set, which
// a later call takes as ours, to change it; 0 is none.
func limitMemory(logger *slog.Logger, ours, queued int64, clients int, secure bool) int64 {
	if now := debug.SetMemoryLimit(-1); now != math.MaxInt64 && now != ours {
		return 0
	}
	each := int64(connectionMemory)
	if secure {
		each = secureMemory
	}
	limit := queued + queued/4 + runtimeMemory + int64(clients)*each
	debug.SetMemoryLimit(limit)
	logger.Debug("memory limit of the runtime", "limit", formatSize(limit))
	return limit
}
