package command

import (
	"fmt"
	"net"
	"syscall"
)

const (
	// maxReservedFiles is how many files are set aside at most: for the admin address, its metrics, and for what
	// the hub reads while it runs.
	maxReservedFiles = 64

	// minOwnFiles is how many files a hub has open itself: standard streams, listeners, the poller, what the Go runtime
	// looks at.
	minOwnFiles = 8

	// reservedFraction is the part of the others that is set aside at most.
	reservedFraction = 4

	// maxAdminConnections is how many connections the admin address has at most: fewer than files are set
	// aside, or 3 of 4 of them.
	maxAdminConnections = 48
)

// reservedFiles returns how many files of so many are set aside.
func reservedFiles(files int) int {
	return max(1, min(maxReservedFiles, (files-minOwnFiles)/reservedFraction))
}

// adminConnectionLimit returns how many connections the admin address may have of so many files.
func adminConnectionLimit(files int) int {
	return max(1, min(maxAdminConnections, reservedFiles(files)*3/4))
}

// fileLimitListener accepts no connection while only the files that are set aside are left, so that clients cannot take
// them: its error passes, and those who wait in the kernel are accepted when others have left.
type fileLimitListener struct {
	net.Listener
	maxFiles int // that the process may open
	reserved int // of them
	probe    *fdProbe
}

// newFileLimitListener returns ln as a listener that leaves the files alone that are set aside, where there is a limit.
func newFileLimitListener(ln net.Listener, maxFiles int) net.Listener {
	return &fileLimitListener{ln, maxFiles, reservedFiles(maxFiles), newFDProbe(ln)}
}

// Accept implements net.Listener.
func (l *fileLimitListener) Accept() (net.Conn, error) {
	// The kernel gives each file the lowest number that is free: that tells how many are open at least, whoever has
	// opened them.
	if fd, ok := l.probe.nextFD(); ok && fd >= l.maxFiles-l.reserved {
		return nil, fileLimitError(l.reserved)
	}
	return l.Listener.Accept()
}

// fileLimitError says that only so many files are left, which are set aside.
type fileLimitError int

// Error returns what it is.
func (e fileLimitError) Error() string {
	return fmt.Sprintf("%v but %d, which are set aside for the admin address", syscall.EMFILE, int(e))
}

// Temporary says to those who accept that it passes, as net.Error did.
func (fileLimitError) Temporary() bool { return true }

// Unwrap returns what the operating system calls it.
func (fileLimitError) Unwrap() error { return syscall.EMFILE }
