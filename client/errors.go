package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// Errors that a Client returns, possibly wrapped.
var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("client closed")

	// ErrHubClosed means that the hub closed the connection.
	ErrHubClosed = errors.New("hub closed the connection")

	// ErrConnectionLost means that the connection broke.
	ErrConnectionLost = errors.New("connection lost")

	// ErrTLS means that the TLS handshake failed. The error of crypto/tls with the reason is
	// wrapped as well.
	ErrTLS = errors.New("TLS handshake failed")

	// ErrProtocol means that the hub violated the protocol. The client closes the connection and
	// ends.
	ErrProtocol = errors.New("hub violated the protocol")

	// ErrVersion means that the call requires version 2 of the protocol. The hub does not speak
	// it, or Options.Version is 1.
	ErrVersion = errors.New("requires version 2 of the protocol")

	// ErrSessionLost means that the session could not be resumed. Either the message was sent and
	// the session ended before its report, and its fate is unknown; or the message was not sent,
	// because the hub has restarted and the ids of the receivers are not valid any more.
	ErrSessionLost = errors.New("session lost: the fate of the message is uncertain")

	// ErrUndeliverable means that the client has given up a message, which did not reach the hub
	// completely. The connection was lost at least five times in a row while the message was being
	// sent, over 10 s or more. Without this limit, a message that is too large for a slow or
	// unstable connection would block all messages behind it.
	ErrUndeliverable = errors.New("message undeliverable: connection lost repeatedly while sending it")

	// ErrCallbackBlocked means that Close has returned while a callback of the application was
	// still running.
	ErrCallbackBlocked = errors.New("callback of the application has not returned")

	// ErrTooManyWatchers means that the hub has its maximum number of presence watchers. A later
	// Watch can succeed.
	ErrTooManyWatchers = errors.New("too many presence watchers")

	// ErrWatchForbidden means that the permissions of this client do not include presence.
	ErrWatchForbidden = errors.New("watching presence is not permitted")

	errMixedTLS         = errors.New("some have the prefix hubs:// and some have not, which would send a token without TLS")
	errNilConn          = errors.New("client: net.Conn is nil")
	errNilCallback      = errors.New("client: SendFunc: onReport is nil")
	errAckBeyondSent    = fmt.Errorf("%w: ACK beyond the last SEND", ErrProtocol)
	errUnexpectedReport = fmt.Errorf("%w: REPORT for an unknown message", ErrProtocol)
	errKeepAliveTimeout = fmt.Errorf("%w: nothing received for two keep-alive intervals", ErrConnectionLost)
	errTokenRenewed     = fmt.Errorf("%w: reconnecting with a renewed token", ErrConnectionLost)
	errWelcomeTimeout   = fmt.Errorf("%w: no WELCOME in time: %w", ErrConnectionLost, context.DeadlineExceeded)
)

func unexpectedFrameError(t wire.Type) error {
	return fmt.Errorf("%w: unexpected frame type %d", ErrProtocol, uint8(t))
}

// TooManyReceiversError means that a message has more than wire.MaxReceivers receivers. Nothing
// was sent.
type TooManyReceiversError struct {
	Receivers int
}

// Error returns the number of receivers and the limit.
func (e *TooManyReceiversError) Error() string {
	return fmt.Sprintf("client: %d receivers, at most %d are allowed", e.Receivers, wire.MaxReceivers)
}

// BodyTooLargeError means that a body exceeds the limit. Nothing was sent.
type BodyTooLargeError struct {
	Size, Limit int // bytes
}

// Error returns the size and the limit.
func (e *BodyTooLargeError) Error() string {
	return fmt.Sprintf("client: body of %d bytes, at most %d are allowed", e.Size, e.Limit)
}

// ReportTimeoutTooLongError means that SendOptions.ReportTimeout exceeds the limit of the hub.
// Nothing was sent.
type ReportTimeoutTooLongError struct {
	Timeout, Limit time.Duration
}

// Error returns the timeout and the limit.
func (e *ReportTimeoutTooLongError) Error() string {
	return fmt.Sprintf("client: report timeout of %v, at most %v are allowed", e.Timeout, e.Limit)
}

// RefusedError means that the hub refused a message.
type RefusedError struct {
	Seq    uint64
	Code   wire.ErrorCode
	Reason string // human-readable
}

// Error returns the number of the message and the reason.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("client: the hub refused message %d: %s", e.Seq, e.Reason)
}

// DialError means that Dial has failed at every address, of several. It wraps the errors of all
// attempts.
type DialError struct {
	Attempts []*AddressError // in the order of the attempts
}

// Error returns each address with its error.
func (e *DialError) Error() string {
	var text strings.Builder
	text.WriteString("client: no connection")
	separator := ": "
	for _, attempt := range e.Attempts {
		text.WriteString(separator + attempt.Error())
		separator = "; "
	}
	return text.String()
}

// Unwrap returns the errors of all attempts.
func (e *DialError) Unwrap() []error {
	errs := make([]error, len(e.Attempts))
	for i, attempt := range e.Attempts {
		errs[i] = attempt
	}
	return errs
}

// AddressError means that an attempt to connect to one of several addresses has failed.
type AddressError struct {
	Addr string // as in the addr of Dial
	Err  error
}

// Error returns the address and the error.
func (e *AddressError) Error() string {
	return e.Addr + ": " + strings.TrimPrefix(e.Err.Error(), "client: ")
}

// Unwrap returns the error of the attempt.
func (e *AddressError) Unwrap() error { return e.Err }

// tokenError means that Options.GetToken has failed.
type tokenError struct{ err error }

func (e *tokenError) Error() string { return fmt.Sprintf("client: get token: %v", e.err) }

func (e *tokenError) Unwrap() error { return e.err }

// GoAwayError means that the hub closed the connection with a GOAWAY frame. It wraps
// ErrHubClosed.
type GoAwayError struct {
	Code      wire.GoAwayCode
	Reason    string // human-readable
	Reconnect bool   // the client can reconnect
}

// Error returns the code and the reason.
func (e *GoAwayError) Error() string {
	return fmt.Sprintf("hub sent GOAWAY (%s): %s", e.Code, e.Reason)
}

// Unwrap returns ErrHubClosed.
func (e *GoAwayError) Unwrap() error { return ErrHubClosed }
