//go:build !unix

package command

import (
	"log/slog"
	"math"
	"net"
)

// openFiles returns how many files this process may open.
func openFiles() int { return math.MaxInt32 }

// nextFile is not known where files have no numbers.
func nextFile(net.Listener) (next int, ok bool) { return 0, false }

// warnOfFewFiles has nothing to say where there is no such limit.
func warnOfFewFiles(*slog.Logger, int) {}
