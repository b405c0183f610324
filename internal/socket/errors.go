package socket

import (
	"errors"
)

// Errors that end a connection.
var (
	// ErrFrameTimeout means that an unfinished frame did not arrive in time: no byte, or fewer
	// bytes than the minimum rate requires.
	ErrFrameTimeout = errors.New("frame timeout: incomplete frame")

	// ErrInterrupted means that Reader.Interrupt or Reader.StopWhenEmpty ended the reading.
	ErrInterrupted = errors.New("reading interrupted")

	// ErrIdle means that no data has arrived for the time set by Reader.NotifyIdle. The
	// connection is still usable: Fill can be called again.
	ErrIdle = errors.New("idle: no data received")
)

// errNoMemory means that a Reader has no memory to read into.
var errNoMemory = errors.New("no memory to read into")
