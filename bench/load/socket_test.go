package main

import (
	"testing"

	"github.com/sechlol/go-message-hub/hub"
)

func TestSocketDriver_RawHub(t *testing.T) {
	addr := startHub(t, hub.Config{})
	r, err := runLatency(t.Context(), target{system: "hub-raw", addr: addr}, latencyConfig{size: 100, rounds: 10, seconds: 1})
	if err != nil || r.P50 <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestSocketDriver_IsForTwoClients(t *testing.T) {
	d := newRawHubDriver(target{addr: startHub(t, hub.Config{})}, 3)
	if _, err := d.connect(2, callbacks{}); err == nil {
		t.Error("a third client connected")
	}
}
