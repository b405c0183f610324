package client

import (
	"context"
	"errors"
	"testing"
)

// TestLifetime_Errors checks what calls return while a client is open, closing and ended.
func TestLifetime_Errors(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	var l lifetime
	l.init()
	defer l.cancel()
	check := func(state string, closing bool, open, openCanceled, closed, ended error) {
		t.Helper()
		if got := l.isClosing(); got != closing {
			t.Errorf("%s: isClosing is %v", state, got)
		}
		for name, test := range map[string]struct{ got, want error }{
			"checkOpen":               {l.checkOpen(t.Context()), open},
			"checkOpen with canceled": {l.checkOpen(canceled), openCanceled},
			"closedErr":               {l.closedErr(), closed},
			"Err":                     {l.Err(), ended},
		} {
			if !errors.Is(test.got, test.want) {
				t.Errorf("%s: %s is %v, want %v", state, name, test.got, test.want)
			}
		}
	}
	check("open", false, nil, context.Canceled, ErrConnectionLost, nil)
	close(l.closing)
	check("closing", true, ErrClosed, ErrClosed, ErrClosed, nil)
	if !l.end(ErrHubClosed) || l.end(ErrClosed) {
		t.Error("end does not report the first call")
	}
	check("ended", true, ErrClosed, ErrClosed, ErrHubClosed, ErrHubClosed)
	select {
	case <-l.Done():
		t.Error("Done is closed before cancel")
	default:
	}
	l.cancel()
	<-l.Done()
}
