package hub_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

func TestZZ(t *testing.T) {
	h := start(t, hub.Config{})
	by := h.bystandWithin(t, time.Hour)
	block := bytes.Repeat(wire.AppendIdentityRequest(nil), 400_000)
	for range 1500 {
		p := h.silent(t).small()
		go p.Write(block)
	}
	began := time.Now()
	by.pass(200)
	t.Log("200 rounds took", time.Since(began), h.Stats().Disconnected)
	eventually(t, "x", func() bool { return time.Since(began) > 45*time.Second })
	t.Log(time.Duration(by.slowest.Load()), h.Stats().Disconnected, h.Stats().PeakQueuedBytes)
}
