package hub

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// TestCloseCause_DecidesReasonAndResume checks the reason that is counted for each cause, while
// the hub runs and while it shuts down, and whether the session can be resumed afterwards.
func TestCloseCause_DecidesReasonAndResume(t *testing.T) {
	for _, test := range []struct {
		name            string
		err             error
		running, atStop CloseReason
		resumable       bool
	}{
		{"end of the stream", io.EOF, CloseLeft, CloseLeft, true},
		{"end within a frame", io.ErrUnexpectedEOF, CloseHalfFrame, CloseHalfFrame, true},
		{"network error", errors.New("reset"), CloseLost, CloseLost, true},
		{"frame timeout", socket.ErrFrameTimeout, CloseFrameTimeout, CloseFrameTimeout, true},
		{"interrupt", socket.ErrInterrupted, CloseLost, CloseShutdown, true},
		{"BYE", errBye, CloseLeft, CloseLeft, false},
		{"closed", errConnClosed, CloseLost, CloseLost, false},
		{"too long", wire.ErrTooLong, CloseTooLong, CloseTooLong, false},
		{"malformed", wire.ErrMalformed, CloseMalformed, CloseMalformed, false},
		{"handshake", fmt.Errorf("%w: %w", errHandshakeFailed, io.EOF), CloseHandshake, CloseShutdown, true},
		{"rejected", fmt.Errorf("%w: no token", errRefused), CloseRefused, CloseRefused, true},
		{"GOAWAY", &goAway{reason: CloseVersion, err: errors.New("version")}, CloseVersion, CloseVersion, false},
		{"GOAWAY that lets the client resume", &goAway{reason: CloseExpired, resumable: true, err: ErrExpired}, CloseExpired, CloseShutdown, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := closeReasonOf(test.err, false, false); got != test.running {
				t.Errorf("reason %q, want %q", got, test.running)
			}
			if got := closeReasonOf(test.err, true, false); got != test.atStop {
				t.Errorf("reason %q at shutdown, want %q", got, test.atStop)
			}
			if got := isResumable(test.err); got != test.resumable {
				t.Errorf("resumable: %v, want %v", got, test.resumable)
			}
		})
	}
}

// TestCloseCause_TimedOut_IsTimeout checks that only an interrupt is taken for the keep-alive
// timeout that caused it.
func TestCloseCause_TimedOut_IsTimeout(t *testing.T) {
	for err, want := range map[error]CloseReason{socket.ErrInterrupted: CloseTimeout, io.EOF: CloseLeft, errConnClosed: CloseLost} {
		if got := closeReasonOf(err, false, true); got != want {
			t.Errorf("%v: reason %q, want %q", err, got, want)
		}
	}
}
