package hub_test

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/hub"
)

// nothingAccepted is a listener that returns neither a connection nor an error.
type nothingAccepted struct{ net.Listener }

func (nothingAccepted) Accept() (net.Conn, error) { return nil, nil }

// TestServe_NilArguments checks that Serve returns an error for a nil listener, and for a
// listener that returns a nil connection.
func TestServe_NilArguments(t *testing.T) {
	h, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer shutdownHub(t, h)
	if err := h.Serve(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "ln is nil") {
		t.Errorf("no listener: %v", err)
	}
	err = h.Serve(t.Context(), nothingAccepted{listen(t)})
	if err == nil || errors.Is(err, hub.ErrClosed) || !strings.Contains(err.Error(), "nothingAccepted") {
		t.Errorf("a listener that accepts nil: %v", err)
	}
}

func TestNewTLSListener_NilArguments(t *testing.T) {
	for name, f := range map[string]func(){
		"listener":      func() { hub.NewTLSListener(nil, new(tls.Config)) },
		"configuration": func() { hub.NewTLSListener(listen(t), nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a nil %s is accepted", name)
				}
			}()
			f()
		}()
	}
}
