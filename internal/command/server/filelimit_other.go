//go:build !unix

package server

import (
	"log/slog"
	"math"
	"net"
)

// maxOpenFiles returns the maximum number of files that this process can open.
func maxOpenFiles() int { return math.MaxInt32 }

// fdProbe does nothing on systems where files have no numbers.
type fdProbe struct{}

func newFDProbe(net.Listener) *fdProbe { return nil }

func (*fdProbe) nextFD() (fd int, ok bool) { return 0, false }

// warnLowFileLimit does nothing on systems without this limit.
func warnLowFileLimit(*slog.Logger, int) {}
