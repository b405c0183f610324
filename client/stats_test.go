package client

import (
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

func TestStats(t *testing.T) {
	c, h := newTestClientV1(t, nil)
	relay := wire.AppendRelay(nil, []uint64{1}, []byte("hello"))
	if err := c.Send(t.Context(), []uint64{1}, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	h.wantBytes(relay)
	h.send(deliveryFrames(3))
	for _, want := range []string{"0", "1", "2"} {
		wantMessage(t, c, want)
	}
	h.Close()
	<-c.Done()
	c.Close()
	want := Stats{
		MessagesIn: 4, Deliveries: 3, BytesIn: uint64(wire.IdentityLen + len(deliveryFrames(3))),
		MessagesOut: 2, BytesOut: uint64(wire.IdentityRequestLen + len(relay)),
	}
	if got := c.Stats(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
