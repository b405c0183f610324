package socket

import (
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
)

// base is what a connection is made of, for its Reader, and as an outbox.Conn for its Outbox.
// It is static after New.
type base struct {
	transport
	Handler
	config *Config
}

// Handler is the owner of a connection. Its methods can be called concurrently and must not
// block.
type Handler interface {
	// Account returns the account that is charged for frames larger than a read buffer. While the
	// account has no room, the connection is not read. If the account has room, it is also
	// charged for TLS records that wait for the receive window of the peer and take more than 18
	// KiB, at most 64 KiB. nil: no account is charged.
	Account() *body.Account

	// Done returns a channel that is closed when the Reader must no longer wait for memory.
	Done() <-chan struct{}

	// OnWritten is called after each write, by the goroutine that writes, with the counts of what
	// the write has finished.
	OnWritten(outbox.Counts)

	// OnLost is called when the outbox is closed, at most twice, with the counts of the frames
	// that were still queued or blocked.
	OnLost(outbox.Counts)

	// OnWriteError is called once, when a write has failed or the peer has stalled. The handler
	// should then close the connection. An outbox with EnableAcks that has not stalled is
	// detached already.
	OnWriteError(error)
}
