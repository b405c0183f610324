//go:build !unix

package command

import (
	"log/slog"
	"math"
)

// openFiles returns how many files this process may open.
func openFiles() int { return math.MaxInt32 }

// warnOfFewFiles has nothing to say where there is no such limit.
func warnOfFewFiles(*slog.Logger, int) {}
