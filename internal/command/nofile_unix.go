//go:build unix

package command

import (
	"log/slog"
	"math"
	"syscall"
)

// spareFiles is what a hub opens besides its clients: standard streams, the
// listener, the poller, and some room for lookups.
const spareFiles = 16

// openFiles returns how many files this process may open.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}

// warnOfFewFiles says so when the operating system does not let this process
// open as many files as it may have clients. The Go runtime has raised the soft
// limit to the hard one before; more is not ours to take.
func warnOfFewFiles(logger *slog.Logger, clients int) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		logger.Warn("cannot tell how many files may be open", "error", err)
		return
	}
	if needed := uint64(clients) + spareFiles; uint64(limit.Cur) < needed {
		logger.Warn("fewer files may be open than clients may connect",
			"open_files", uint64(limit.Cur), "max_clients", clients,
			"advice", "raise the limit (ulimit -n, or LimitNOFILE= of a systemd unit) or lower -max-clients")
	}
}
