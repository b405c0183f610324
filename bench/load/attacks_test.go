package main

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// TestAttacks_EndWithConnection runs each attack on a hub until its connection is closed. The hub
// serves another client afterwards.
func TestAttacks_EndWithConnection(t *testing.T) {
	addr := startHub(t, hub.Config{})
	for kind, attack := range attacks {
		t.Run(kind, func(t *testing.T) {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			defer context.AfterFunc(ctx, func() { nc.Close() })()
			attack(ctx, nc, "")
			nc.Close()
			if err := visitHub(addr); err != nil {
				t.Error(err)
			}
		})
	}
}
