//go:build unix

package command

import (
	"errors"
	"log/slog"
	"math"
	"net"
	"syscall"
)

// ownFiles is how many files are left to the hub itself, besides its clients and those that are set aside.
const ownFiles = 2 * minOwnFiles

// openFiles returns how many files this process may open.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}

// nextFile returns the number that the next file will have, and false where that is not known. A process that can
// open none has as many as it may.
func nextFile(ln net.Listener) (next int, ok bool) {
	tcp, ok := ln.(syscall.Conn)
	if !ok {
		return 0, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, false
	}
	var failure error
	if err := raw.Control(func(fd uintptr) { next, failure = syscall.Dup(int(fd)) }); err != nil {
		return 0, false
	}
	if failure != nil {
		return math.MaxInt, errors.Is(failure, syscall.EMFILE)
	}
	_ = syscall.Close(next) // fails for no file of ours
	return next, true
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
	if needed := uint64(clients) + ownFiles + maxReservedFiles; uint64(limit.Cur) < needed {
		logger.Warn("fewer files may be open than clients may connect",
			"open_files", uint64(limit.Cur), "max_clients", clients,
			"advice", "raise the limit (ulimit -n, or LimitNOFILE= of a systemd unit) or lower -max-clients")
	}
}
