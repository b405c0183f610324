//go:build unix

package server

import (
	"errors"
	"log/slog"
	"math"
	"net"
	"sync"
	"syscall"
)

// ownFiles is the number of file descriptors for the hub itself, in addition to those of its
// clients and the reserved ones.
const ownFiles = 2 * minOwnFiles

// maxOpenFiles returns the maximum number of files that this process can open.
func maxOpenFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}

// fdProbe finds the number of the next file descriptor. It does not allocate, because each
// accepted connection calls it. Its method can be called concurrently.
type fdProbe struct {
	raw syscall.RawConn    // of a listener, whose descriptor is duplicated for a probe
	dup func(file uintptr) // stores its result in fd and err; made once, because a closure allocates

	// Guarded by mu.
	mu  sync.Mutex
	fd  int
	err error
}

// newFDProbe returns a probe that uses the descriptor of ln, or nil if ln has none.
func newFDProbe(ln net.Listener) *fdProbe {
	tcp, ok := ln.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	p := &fdProbe{raw: raw}
	p.dup = func(file uintptr) { p.fd, p.err = syscall.Dup(int(file)) }
	return p
}

// nextFD returns the number of the next file descriptor. ok is false if the number is unknown.
// If the process can open no more files, fd is math.MaxInt.
func (p *fdProbe) nextFD() (fd int, ok bool) {
	if p == nil {
		return 0, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.raw.Control(p.dup); err != nil {
		return 0, false
	}
	if p.err != nil {
		return math.MaxInt, errors.Is(p.err, syscall.EMFILE)
	}
	_ = syscall.Close(p.fd) // cannot fail for a descriptor that was just opened
	return p.fd, true
}

// warnLowFileLimit logs a warning if this process cannot open as many files as clients can
// connect. The Go runtime has already raised the soft limit to the hard limit.
func warnLowFileLimit(logger *slog.Logger, clients int) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		logger.Warn("cannot read the limit of open files", "error", err)
		return
	}
	if needed := uint64(clients) + ownFiles + maxReservedFiles; uint64(limit.Cur) < needed {
		logger.Warn("the limit of open files is too low for the maximum number of clients",
			"open_files", uint64(limit.Cur), "max_clients", clients,
			"advice", "raise the limit (ulimit -n, or LimitNOFILE= of a systemd unit) or lower -max-clients")
	}
}
