//go:build !unix

package command

import (
	"log/slog"
	"math"
	"net"
)

// maxOpenFiles returns how many files this process may open.
func maxOpenFiles() int { return math.MaxInt32 }

// fdProbe knows nothing where files have no numbers.
type fdProbe struct{}

func newFDProbe(net.Listener) *fdProbe { return nil }

func (*fdProbe) nextFD() (fd int, ok bool) { return 0, false }

// warnLowFileLimit has nothing to say where there is no such limit.
func warnLowFileLimit(*slog.Logger, int) {}
