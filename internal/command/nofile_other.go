//go:build !unix

package command

import (
	"log/slog"
	"math"
	"net"
)

// openFiles returns how many files this process may open.
func openFiles() int { return math.MaxInt32 }

// fileProbe knows nothing where files have no numbers.
type fileProbe struct{}

func newFileProbe(net.Listener) *fileProbe { return nil }

func (*fileProbe) next() (number int, ok bool) { return 0, false }

// warnOfFewFiles has nothing to say where there is no such limit.
func warnOfFewFiles(*slog.Logger, int) {}
