package server

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/sechlol/go-message-hub/internal/settings"
)

const (
	// runtimeMemory is the memory of the process apart from what it holds for clients, in bytes:
	// the program, the Go runtime, and garbage between two collections.
	runtimeMemory = 64 << 20 // minGarbage included

	// connectionMemory is the memory of a connection in addition to the budget, in bytes. An idle
	// connection takes 4.5 KiB, and a version 1 connection that does not read its replies takes
	// 12 KiB (measured, docs/BENCHMARKS.md). The constant is larger because the runtime collects
	// garbage continuously if thousands of such connections bring the process close to its limit.
	connectionMemory = 24 << 10

	// tlsConnectionMemory is connectionMemory of a connection over TLS, in bytes. An idle
	// connection takes 15 KiB, and a connection that has received a 16 KiB record takes 29 KiB,
	// because crypto/tls keeps the buffer (docs/OPERATIONS.md).
	tlsConnectionMemory = 40 << 10
)

// gcPercent is the GC percentage of the Go runtime: how much garbage can accumulate, in
// percent of the live heap. It is half of the default. The message path makes almost no
// garbage, and the lower value therefore costs nothing measurable, but idle connections over
// TLS take a seventh less memory (docs/decisions/0010).
const gcPercent = 50

// setGCPercent applies gcPercent unless the operator has set GOGC.
func setGCPercent() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// setMemoryLimit sets the memory limit of the Go runtime for a hub with maxQueued bytes of
// budget and so many clients. With the limit, the runtime frees returned buffers before it
// allocates buffers of another size: without a limit, a hub with a budget of 64 MiB grew to
// 388 MiB. A GOMEMLIMIT of the operator is left alone. The result is the new limit, in bytes,
// or 0 if no limit was set. A later call takes the result as previous, to recognize and
// replace the limit.
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
	logger.Debug("memory limit of the runtime", "limit", settings.FormatSize(limit))
	return limit
}
