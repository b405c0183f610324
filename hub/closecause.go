package hub

import (
	"errors"
	"io"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// The errors with which the reading of a connection ends, besides those of package socket and
// of package wire, and goAway.
var (
	// errConnClosed says that another goroutine closed the connection.
	errConnClosed = errors.New("connection closed")

	// errBye says that the client has sent BYE.
	errBye = errors.New("bye")

	// errHandshakeFailed says that the handshake failed.
	errHandshakeFailed = errors.New("handshake failed")

	// errRefused says that a client was rejected.
	errRefused = errors.New("rejected")
)

// goAwayTimeout is how long a client has to receive its GOAWAY.
const goAwayTimeout = time.Second

// goAway is an error that ends a connection, and whose text is sent to the client in GOAWAY.
type goAway struct {
	code           wire.GoAwayCode
	reason         CloseReason
	reconnect      bool          // the client should reconnect
	reconnectDelay time.Duration // not before this delay
	resumable      bool          // its session waits to be resumed, as after a loss
	err            error
}

func (g *goAway) Error() string { return g.err.Error() }
func (g *goAway) Unwrap() error { return g.err }

func (g *goAway) encode() []byte {
	return wire.AppendGoAway(nil, &wire.GoAway{Code: g.code, Reason: g.err.Error(), Reconnect: g.reconnect, After: int(g.reconnectDelay.Milliseconds())})
}

// closeReasonOf returns the CloseReason of a connection whose reading has ended with err.
// closing says that the hub shuts down, and timedOut that nothing has arrived for two
// keep-alive intervals.
func closeReasonOf(err error, closing, timedOut bool) CloseReason {
	var away *goAway
	var violation *socket.WebSocketError
	switch {
	case errors.As(err, &away) && !(away.resumable && closing):
		return away.reason
	case closing && (away != nil || errors.Is(err, errHandshakeFailed) || errors.Is(err, socket.ErrInterrupted)):
		return CloseShutdown
	case errors.Is(err, errHandshakeFailed):
		return CloseHandshake
	case errors.Is(err, errRefused):
		return CloseRefused
	case errors.Is(err, errBye), errors.Is(err, io.EOF):
		return CloseLeft
	case errors.Is(err, io.ErrUnexpectedEOF):
		return CloseHalfFrame
	case errors.Is(err, socket.ErrFrameTimeout):
		return CloseFrameTimeout
	case errors.Is(err, wire.ErrTooLong):
		return CloseTooLong
	case errors.Is(err, wire.ErrMalformed):
		return CloseMalformed
	case errors.As(err, &violation) && violation.Status == socket.StatusUnsupportedData:
		return CloseText
	case violation != nil:
		return CloseWebSocket
	case errors.Is(err, socket.ErrInterrupted) && timedOut:
		return CloseTimeout
	}
	return CloseLost
}

// isResumable reports whether the session of a connection that ended with err can be resumed:
// not if the client or the hub has ended the connection on purpose.
func isResumable(err error) bool {
	var away *goAway
	if errors.As(err, &away) {
		return away.resumable
	}
	return !errors.Is(err, errBye) && !errors.Is(err, errConnClosed) &&
		!errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooLong)
}
