package main

import (
	"testing"

	"github.com/sechlol/go-message-hub/hub"
)

// TestRunFlood_EachKind floods a hub that admits ten connections of an address.
func TestRunFlood_EachKind(t *testing.T) {
	addr := startHub(t, hub.Config{MaxPerAddress: 10})
	for _, kind := range floodKinds {
		c := floodConfig{kind: kind, fromAddr: "127.0.0.2", clients: 2, rate: 1000, seconds: 0.2}
		f, err := runFlood(t.Context(), target{system: "hub", addr: addr}, c)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if f.Attempts == 0 || (f.Rejected > 0) != (kind != "messages") || f.Rejected > f.Attempts {
			t.Errorf("%s: %+v", kind, f)
		}
	}
}
