package main

import "testing"

func TestWorkload_ForSystem(t *testing.T) {
	wl := workload{clients: 10, randomReceivers: 3, messages: 100, divisors: map[string]int{"nats": 4}}
	if n := wl.forSystem("hub"); n.deliveries() != 3000 {
		t.Errorf("%d deliveries of the hub, want 3000", n.deliveries())
	}
	if n := wl.forSystem("nats"); n.deliveries() != 750 {
		t.Errorf("%d deliveries of nats, want 750", n.deliveries())
	}
	wl = workload{clients: 10, senders: 2, messages: 5}
	if n := wl.deliveries(); n != 90 {
		t.Errorf("%d deliveries, want 90", n)
	}
}
