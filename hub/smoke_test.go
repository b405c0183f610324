package hub_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
)

func TestSmoke(t *testing.T) {
	h, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ln, _ := net.Listen("tcp", "127.0.0.1:0")
	go h.Serve(context.Background(), ln)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	a, err := client.Dial(ctx, ln.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.Dial(ctx, ln.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := a.List(ctx)
	t.Log(a.ID(), b.ID(), ids, err)
	for _, n := range []int{0, 5, 5000, 70000, 1 << 20} {
		body := make([]byte, n)
		if err := a.Send(ctx, ids, body); err != nil {
			t.Fatal(err)
		}
		m, err := b.Receive(ctx)
		t.Log(len(m.Body), err)
	}
	t.Log(a.Close(), b.Close())
	t.Log(h.Shutdown(ctx))
	t.Logf("%+v", h.Stats())
}
