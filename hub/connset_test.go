package hub_test

import (
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
)

// TestHub_MaxClients_RejectsTheNext checks that connections beyond MaxClients are rejected,
// and that another is accepted after a client has left.
func TestHub_MaxClients_RejectsTheNext(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MaxClients: 3})
		bystanders := h.startBystanders(t)
		last := h.connectV1(t)
		for range 5 {
			h.expectRejectedV1(t)
		}
		if n := h.Stats().Rejected[hub.RejectFull]; n != 5 {
			t.Errorf("%d rejected, want 5", n)
		}
		last.Close()
		h.waitDisconnected(t, hub.CloseLeft, 1)
		eventually(t, "another is accepted", func() bool {
			nc, err := h.dial()
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.NewConn(t.Context(), nc, nil)
			t.Cleanup(func() { nc.Close() })
			return err == nil
		})
		bystanders.waitRounds(3)
	})
}
