package simulation

import (
	"net"
	"strings"
	"testing"
	"time"
)

func TestRun_ConnectionRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	_, err = Run(t.Context(), smallConfig(addr))
	if err == nil || !strings.Contains(err.Error(), "cannot connect to "+addr) {
		t.Errorf("got %v", err)
	}
}

func TestRun_ConnectTimeout(t *testing.T) {
	h := (&fakeHub{silent: true}).start(t)
	c := smallConfig(h.addr)
	c.Timeout = 100 * time.Millisecond
	_, err := Run(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("got %v", err)
	}
}

func TestRun_RejectsDuplicateIDs(t *testing.T) {
	h := (&fakeHub{sameID: true}).start(t)
	_, err := Run(t.Context(), smallConfig(h.addr))
	if err == nil || !strings.Contains(err.Error(), "the id 1 to two clients") {
		t.Errorf("got %v", err)
	}
}
