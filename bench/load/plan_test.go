package main

import (
	"slices"
	"testing"
)

func TestNewPlan_RejectsArguments(t *testing.T) {
	for _, test := range []struct {
		what                                     string
		clients, senders, fanout, messages, size int
	}{
		{"one client", 1, 1, 0, 1, 16},
		{"no sender", 2, 0, 0, 1, 16},
		{"more senders than clients", 2, 3, 0, 1, 16},
		{"more receivers than others", 3, 1, 3, 1, 16},
		{"no message", 2, 1, 0, 0, 16},
		{"size below the header", 2, 1, 0, 1, headerSize - 1},
	} {
		if _, err := newPlan(test.clients, test.senders, test.fanout, test.messages, test.size, 1); err == nil {
			t.Errorf("%s: no error", test.what)
		}
	}
}

func TestPlan_ToEveryone(t *testing.T) {
	p, err := newPlan(5, 2, 0, 10, 16, 1)
	if err != nil {
		t.Fatal(err)
	}
	if p.receivers(0, 0) != nil {
		t.Error("a message to everyone names its receivers")
	}
	for r, want := range []uint64{10, 10, 20, 20, 20} { // senders do not receive their own messages
		if n := p.expected(r); n != want {
			t.Errorf("client %d expects %d, want %d", r, n, want)
		}
	}
	if n := p.deliveries(); n != 80 {
		t.Errorf("%d deliveries, want 80", n)
	}
}

// TestPlan_Scattered checks the random receivers: they are distinct, every client receives
// from every other client, and receivers expect what senders send.
func TestPlan_Scattered(t *testing.T) {
	const clients, fanout, messages = 20, 5, 200
	p, err := newPlan(clients, clients, fanout, messages, 16, 1)
	if err != nil {
		t.Fatal(err)
	}
	due := make([][][]uint32, clients)
	for r := range due {
		due[r] = make([][]uint32, clients)
	}
	for s := range clients {
		for k := range messages {
			to := slices.Sorted(slices.Values(p.receivers(s, k)))
			if len(slices.Compact(to)) != fanout || slices.Contains(to, int32(s)) {
				t.Fatalf("message %d of sender %d goes to %v", k, s, p.receivers(s, k))
			}
			for _, r := range to {
				due[r][s] = append(due[r][s], uint32(k))
			}
		}
	}
	total := uint64(0)
	for r := range clients {
		total += p.expected(r)
		for s := range clients {
			if !slices.Equal(due[r][s], p.due[r][s]) {
				t.Errorf("client %d expects %v from sender %d, which sends %v", r, p.due[r][s], s, due[r][s])
			}
			if r != s && len(due[r][s]) == 0 {
				t.Errorf("client %d gets nothing from sender %d", r, s)
			}
		}
	}
	if total != p.deliveries() {
		t.Errorf("%d deliveries are expected, %d are made", total, p.deliveries())
	}
}

// TestPlan_SameSeedSamePlan compares plans of the same seed and of another seed.
func TestPlan_SameSeedSamePlan(t *testing.T) {
	draw := func(seed uint64) [][]int32 {
		p, err := newPlan(20, 20, 5, 50, 16, seed)
		if err != nil {
			t.Fatal(err)
		}
		return p.to
	}
	first, same, other := draw(1), draw(1), draw(2)
	if !slices.EqualFunc(first, same, slices.Equal) {
		t.Error("two plans of one seed differ")
	}
	if slices.EqualFunc(first, other, slices.Equal) {
		t.Error("the plans of two seeds are the same")
	}
}
