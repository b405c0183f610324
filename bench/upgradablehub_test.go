package main

import "testing"

// TestUpgradableHub_Restarts replaces the process of a hub, at the same address.
func TestUpgradableHub_Restarts(t *testing.T) {
	p := newTestPrograms(t, "hub")
	creds, err := newCredentials(p)
	if err != nil {
		t.Fatal(err)
	}
	h, err := newUpgradableHub(t.Context(), p, creds)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { h.kill() }()
	addr := h.listenAddr()
	for range 2 {
		m, err := h.metrics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m.goroutines <= 0 || m.files <= 0 || m.heap <= 0 || m.queued != 0 {
			t.Errorf("%+v", m)
		}
		if _, err := h.stop(); err != nil {
			t.Fatal(err)
		}
		if err := h.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if h.addr != addr {
			t.Errorf("listens at %s, want %s", h.addr, addr)
		}
	}
}
