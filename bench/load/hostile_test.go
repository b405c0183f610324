package main

import (
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

func TestRunHostile_HoldsConnections(t *testing.T) {
	addr := startHub(t, hub.Config{})
	c := hostileConfig{kind: "silent", conns: 20, addresses: 4, rate: 1000, seconds: 0.4}
	h, err := runHostile(t.Context(), target{system: "hub", addr: addr}, c)
	if err != nil {
		t.Fatal(err)
	}
	if h.HeldConns != 20 || h.MadeConns != 20 {
		t.Errorf("%+v, want 20 connections", h)
	}
}

// TestRunHostile_ReplacesConnections has connections that are replaced after 50 ms.
func TestRunHostile_ReplacesConnections(t *testing.T) {
	addr := startHub(t, hub.Config{})
	c := hostileConfig{kind: "silent", conns: 5, addresses: 1, rate: 1000, seconds: 0.4, lifetime: 50 * time.Millisecond}
	h, err := runHostile(t.Context(), target{system: "hub", addr: addr}, c)
	if err != nil {
		t.Fatal(err)
	}
	if h.MadeConns < 2*uint64(c.conns) {
		t.Errorf("%+v, want at least %d connections", h, 2*c.conns)
	}
}

func TestRunHostile_RejectsAddresses(t *testing.T) {
	for _, n := range []int{0, 251} {
		if _, err := runHostile(t.Context(), target{}, hostileConfig{kind: "silent", addresses: n}); err == nil {
			t.Errorf("no error for %d addresses", n)
		}
	}
}
