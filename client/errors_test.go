package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// TestErrors checks what the errors say, and which sentinels they wrap.
func TestErrors(t *testing.T) {
	for _, test := range []struct {
		err  error
		is   error // nil: none
		says string
	}{
		{&TooManyReceiversError{Receivers: 256}, nil, "256 receivers, at most 255"},
		{&BodyTooLargeError{Size: 101, Limit: 100}, nil, "body of 101 bytes, at most 100"},
		{&ReportTimeoutTooLongError{Timeout: time.Minute, Limit: time.Second}, nil, "report timeout of 1m0s, at most 1s"},
		{&RefusedError{Seq: 7, Reason: "no"}, nil, "message 7: no"},
		{&GoAwayError{Code: wire.GoAwayExpired, Reason: "a token"}, ErrHubClosed, "a token"},
		{unexpectedFrameError(200), ErrProtocol, "200"},
		{errAckBeyondSent, ErrProtocol, ""},
		{errUnexpectedReport, ErrProtocol, ""},
		{errKeepAliveTimeout, ErrConnectionLost, ""},
		{errTokenRenewed, ErrConnectionLost, ""},
		{errWelcomeTimeout, ErrConnectionLost, ""},
		{errWelcomeTimeout, context.DeadlineExceeded, ""},
	} {
		if test.is != nil && !errors.Is(test.err, test.is) || !strings.Contains(test.err.Error(), test.says) {
			t.Errorf("%v: want %q, and an error that is %v", test.err, test.says, test.is)
		}
	}
}
