package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// TestDial_AllAddressesFail: the error names each address with its cause.
func TestDial_AllAddressesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, "b")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		begin := time.Now()
		made := n.dial(ctx, Options{})
		n.reject("a", wire.GoAway{Code: wire.GoAwayRefused, Reason: "bad token"})
		h := <-n.hubs["c"]
		h.wantType(wire.TypeHello) // and no answer
		h.wantType(wire.TypeIdentity)
		h.wantBytes(wire.AppendBye(nil))
		err := <-made
		const want = "client: no connection: a: handshake with pipe: hub sent GOAWAY (refused): bad token; b: dial: connection refused; c: handshake with pipe: context deadline exceeded"
		if err == nil || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		var failed *DialError
		var away *GoAwayError
		if !errors.As(err, &failed) || len(failed.Attempts) != 3 || !errors.As(err, &away) || !errors.Is(err, errRefused) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%#v does not wrap the errors", err)
		}
		if took := time.Since(begin); took != maxDialTimeout {
			t.Errorf("took %v, want %v", took, maxDialTimeout)
		}
	})
}

// TestDial_EndsEarly: other addresses do not help without time or without a token.
func TestDial_EndsEarly(t *testing.T) {
	noToken := errors.New("no such file")
	for name, test := range map[string]struct {
		options Options
		want    string
	}{
		"no token": {Options{GetToken: func(context.Context) (string, error) { return "", noToken }}, "client: no connection: a: get token: no such file"},
		"no time":  {Options{}, "client: no connection: a: handshake with pipe: context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newTestNet(t)
				ctx, cancel := context.WithCancel(t.Context())
				made := n.dial(ctx, test.options)
				h := <-n.hubs["a"]
				if test.options.GetToken == nil {
					h.wantType(wire.TypeHello)
					h.wantType(wire.TypeIdentity)
				}
				cancel()
				if err := <-made; err == nil || err.Error() != test.want {
					t.Errorf("error %v, want %s", err, test.want)
				}
				if len(n.hubs["b"]) > 0 {
					t.Error("the client dials b")
				}
			})
		})
	}
}

// TestDial_BlockedCallbackEndsAttempts: a second attempt could call OnMessage concurrently.
func TestDial_BlockedCallbackEndsAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		release := make(chan struct{})
		made := n.dial(t.Context(), Options{OnMessage: func(Message) { <-release }})
		h := <-n.hubs["a"]
		h.wantType(wire.TypeHello)
		h.wantType(wire.TypeIdentity)
		h.send(deliveryFrame("before the id"))
		if err := <-made; !errors.Is(err, ErrCallbackBlocked) || strings.Contains(err.Error(), "b: ") {
			t.Errorf("error %v, want one of a alone", err)
		}
		close(release)
	})
}
