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

	// reservedPart is the part of the others that is set aside at most.
	reservedPart = 4

	// maxAdminConnections is how many connections the admin address has at most: fewer than files are set
	// aside, or 3 of 4 of them.
	maxAdminConnections = 48
)

// reservedFiles returns how many files of so many are set aside.
func reservedFiles(files int) int {
	return max(1, min(maxReservedFiles, (files-minOwnFiles)/reservedPart))
}

// adminConnections returns how many connections the admin address may have of so many files.
func adminConnections(files int) int {
	return max(1, min(maxAdminConnections, reservedFiles(files)*3/4))
}

// sparingListener accepts no connection while only the files that are set aside are left, so that clients cannot take
// them: its error passes, and those who wait in the kernel are accepted when others have left.
type sparingListener struct {
	net.Listener
	files    int // that the process may open
	reserved int // of them
	probe    *fileProbe
}

// spareFiles returns ln as a listener that leaves the files alone that are set aside, where there is a limit.
func spareFiles(ln net.Listener, files int) net.Listener {
	return &sparingListener{ln, files, reservedFiles(files), newFileProbe(ln)}
}

// Accept implements net.Listener.
func (l *sparingListener) Accept() (net.Conn, error) {
	// The kernel gives each file the lowest number that is free: that tells how many are open at least, whoever has
	// opened them.
	if next, ok := l.probe.next(); ok && next >= l.files-l.reserved {
		return nil, fewFilesError(l.reserved)
	}
	return l.Listener.Accept()
}

// fewFilesError says that only so many files are left, which are set aside.
type fewFilesError int

// Error returns what it is.
func (e fewFilesError) Error() string {
	return fmt.Sprintf("%v but %d, which are set aside for the admin address", syscall.EMFILE, int(e))
}

// Temporary says to those who accept that it passes, as net.Error did.
func (fewFilesError) Temporary() bool { return true }

// Unwrap returns what the operating system calls it.
func (fewFilesError) Unwrap() error { return syscall.EMFILE }
