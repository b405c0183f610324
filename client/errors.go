package client

import (
	"errors"
	"fmt"

	"github.com/sechlol/go-message-hub/wire"
)

// Errors of a client.
var (
	// ErrClosed is what every call returns after Close.
	ErrClosed = errors.New("client closed")

	// ErrHubClosed says that the hub ended the connection.
	ErrHubClosed = errors.New("hub closed the connection")

	// ErrLost says that the connection broke.
	ErrLost = errors.New("connection lost")

	// ErrProtocol says that what came is not what a hub sends. The connection is
	// over.
	ErrProtocol = errors.New("protocol violated by the hub")
)

// TooManyReceiversError says that a message names more receivers than a frame
// can. Nothing of it was sent.
type TooManyReceiversError struct {
	Receivers int
}

// Error tells the number and what is allowed.
func (e *TooManyReceiversError) Error() string {
	return fmt.Sprintf("client: %d receivers, at most %d are allowed", e.Receivers, wire.MaxReceivers)
}

// BodyTooLargeError says that a body is over the limit. Nothing of it was sent.
type BodyTooLargeError struct {
	Size, Limit int // bytes
}

// Error tells the size and what is allowed.
func (e *BodyTooLargeError) Error() string {
	return fmt.Sprintf("client: body of %d bytes, at most %d are allowed", e.Size, e.Limit)
}
