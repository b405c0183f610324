package serve

import (
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a hub on a free port of the loopback interface.
func start(t *testing.T) (*Running, net.Listener) {
	t.Helper()
	h, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return Start(t.Context(), h, ln), ln
}

func TestRunning_Close(t *testing.T) {
	r, ln := start(t)
	c, err := client.Dial(t.Context(), ln.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := r.UnexpectedErr(); err != nil {
		t.Errorf("while it serves: %v", err)
	}
	if err := r.Close(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
	select {
	case <-r.Done():
	default:
		t.Error("it serves after Close")
	}
	if err := r.UnexpectedErr(); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

// TestRunning_UnexpectedErr closes the listener of the hub.
func TestRunning_UnexpectedErr(t *testing.T) {
	r, ln := start(t)
	ln.Close()
	<-r.Done()
	if r.UnexpectedErr() == nil {
		t.Error("no error of a hub whose listener failed")
	}
	if err := r.Close(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
}
