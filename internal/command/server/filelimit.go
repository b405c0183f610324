package server

import (
	"fmt"
	"net"
	"syscall"
)

const (
	// maxReservedFiles is the maximum number of file descriptors that are reserved for the admin
	// address, for its metrics, and for files that the hub reads while it runs.
	maxReservedFiles = 64

	// minOwnFiles is the number of file descriptors that a hub has open without clients: standard
	// streams, listeners, the poller, and files that the Go runtime reads.
	minOwnFiles = 8

	// reservedFraction is the divisor that limits the reserved file descriptors to a quarter of
	// the others.
	reservedFraction = 4

	// maxAdminConnections is the maximum number of connections to the admin address. The limit is
	// less than the number of reserved file descriptors: at most 3 of 4 of them.
	maxAdminConnections = 48
)

// reservedFiles returns how many of files descriptors are reserved.
func reservedFiles(files int) int {
	return max(1, min(maxReservedFiles, (files-minOwnFiles)/reservedFraction))
}

// adminConnectionLimit returns the maximum number of admin connections of a process that can
// open so many files.
func adminConnectionLimit(files int) int {
	return max(1, min(maxAdminConnections, reservedFiles(files)*3/4))
}

// fileLimitListener accepts no connection while only reserved file descriptors are free,
// because clients must not use these. Accept then returns a temporary error, and new clients
// wait in the kernel until other clients have left.
type fileLimitListener struct {
	net.Listener
	maxFiles int // limit of the process
	reserved int // of maxFiles
	probe    *fdProbe
}

// newFileLimitListener returns ln as a listener that leaves the reserved file descriptors
// free.
func newFileLimitListener(ln net.Listener, maxFiles int) net.Listener {
	return &fileLimitListener{ln, maxFiles, reservedFiles(maxFiles), newFDProbe(ln)}
}

// Accept implements net.Listener.
func (l *fileLimitListener) Accept() (net.Conn, error) {
	// The kernel gives each file the lowest free number. The next number is therefore a lower
	// bound of the number of open files, no matter which code has opened them.
	if fd, ok := l.probe.nextFD(); ok && fd >= l.maxFiles-l.reserved {
		return nil, fileLimitError(l.reserved)
	}
	return l.Listener.Accept()
}

// fileLimitError is the number of reserved file descriptors, the only ones that are free.
type fileLimitError int

// Error implements error.
func (e fileLimitError) Error() string {
	return fmt.Sprintf("%v: the last %d are reserved for the admin address", syscall.EMFILE, int(e))
}

// Temporary tells accept loops to retry, like the method of net.Error.
func (fileLimitError) Temporary() bool { return true }

// Unwrap returns the error of the operating system for this condition.
func (fileLimitError) Unwrap() error { return syscall.EMFILE }
