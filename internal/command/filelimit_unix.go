//go:build unix

package command

import (
	"errors"
	"log/slog"
	"math"
	"net"
	"sync"
	"syscall"
)

// ownFiles is how many files are left to the hub itself, besides its clients and those that are set aside.
const ownFiles = 2 * minOwnFiles

// maxOpenFiles returns how many files this process may open.
func maxOpenFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}

// fdProbe tells which number the next file will have. It makes no garbage: there is a look for
// each connection. Its method may be called concurrently.
type fdProbe struct {
	raw syscall.RawConn    // of a listener, whose file is duplicated for that
	dup func(file uintptr) // leaves its outcome below; bound once

	mu  sync.Mutex
	fd  int
	err error
}

// newFDProbe returns a probe by way of a listener; nil: that has no file.
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

// nextFD returns the number that the next file will have, and false where that is not known. A
// process that can open none has as many as it may.
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
	_ = syscall.Close(p.fd) // fails for no file of ours
	return p.fd, true
}

// warnLowFileLimit says so when the operating system does not let this process
// open as many files as it may have clients. The Go runtime has raised the soft
// limit to the hard one before; more is not ours to take.
func warnLowFileLimit(logger *slog.Logger, clients int) {
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
