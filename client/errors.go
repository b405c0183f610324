package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// Errors of a client.
var (
	// ErrClosed is what every call returns after Close.
	ErrClosed = errors.New("client closed")

	// ErrHubClosed says that the hub ended the connection.
	ErrHubClosed = errors.New("hub closed the connection")

	// ErrConnectionLost says that the connection broke.
	ErrConnectionLost = errors.New("connection lost")

	// ErrTLS says that client and hub did not agree on TLS. The error of crypto/tls, which says
	// why, is wrapped beside it.
	ErrTLS = errors.New("no TLS")

	// ErrProtocol says that what came is not what a hub sends. The connection is
	// over.
	ErrProtocol = errors.New("protocol violated by the hub")

	// ErrVersion says that it takes version 2 of the protocol, which the hub does not
	// speak, or the client was told not to.
	ErrVersion = errors.New("this needs version 2 of the protocol")

	// ErrSessionLost says that nobody knows what became of a message: it was sent, and
	// the hub forgot the client before it reported; or that it was not sent, because the hub
	// has started anew, and the ids of its receivers mean nothing any more.
	ErrSessionLost = errors.New("the hub has forgotten the client: what became of the message is uncertain")

	// ErrUndeliverable says that a message was not sent, and will not be: the connection was lost at
	// least five times, and over ten seconds or more, each time before the whole message had reached the
	// hub. A link that is too slow for it, or that is cut too soon, would keep everything behind it
	// waiting for ever.
	ErrUndeliverable = errors.New("the connection does not carry the message")

	// ErrCallbackBlocked says that Close has not waited any longer for a function of the application that
	// the client had called.
	ErrCallbackBlocked = errors.New("a function of the application that the client has called does not return")

	// ErrTooManyWatchers says that as many clients as the hub allows are told already who comes
	// and goes. Another Watch may be taken later.
	ErrTooManyWatchers = errors.New("the hub tells no more clients who comes and goes")

	// ErrWatchForbidden says that the hub does not tell this client who comes and goes, by what it has
	// shown of itself.
	ErrWatchForbidden = errors.New("the hub does not tell this client who comes and goes")

	errNilConn          = errors.New("client: there is no connection: the net.Conn is nil")
	errNilCallback      = errors.New("client: SendFunc has nobody to tell: done is nil")
	errAckBeyondSent    = fmt.Errorf("%w: TAKEN above what was sent", ErrProtocol)
	errUnexpectedReport = fmt.Errorf("%w: a report of no message that waits for one", ErrProtocol)
	errKeepAliveTimeout = fmt.Errorf("%w: nothing came from the hub for two keep-alive intervals", ErrConnectionLost)
	errTokenRenewed     = fmt.Errorf("%w: the client comes back with a newer token before the old one ends", ErrConnectionLost)
	errWelcomeTimeout   = fmt.Errorf("%w: the hub took the connection and sent no WELCOME: %w", ErrConnectionLost, context.DeadlineExceeded)
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

// ReportTimeoutTooLongError says that a report timeout is over what the hub allows. Nothing was sent.
type ReportTimeoutTooLongError struct {
	Timeout, Limit time.Duration
}

// Error tells the timeout and what is allowed.
func (e *ReportTimeoutTooLongError) Error() string {
	return fmt.Sprintf("client: report timeout of %v, at most %v are allowed", e.Timeout, e.Limit)
}

// RefusedError says that the hub did not take a message.
type RefusedError struct {
	Seq    uint64
	Code   wire.ErrorCode
	Reason string // for people
}

// Error tells the reason.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("client: the hub refused message %d: %s", e.Seq, e.Reason)
}

// GoAwayError says that the hub has told the client to go. It is an ErrHubClosed.
type GoAwayError struct {
	Code      wire.GoAwayCode
	Reason    string // for people
	Reconnect bool   // whether it makes sense to come back: then the client does
}

// Error tells the code and the reason.
func (e *GoAwayError) Error() string {
	return fmt.Sprintf("the hub sends away (%s): %s", e.Code, e.Reason)
}

// Unwrap makes it an ErrHubClosed.
func (e *GoAwayError) Unwrap() error { return ErrHubClosed }
