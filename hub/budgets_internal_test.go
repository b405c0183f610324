package hub

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestBudgets_AreForgotten when they are full again: a flood of clients that come and go must not be
// remembered for ever.
func TestBudgets_AreForgotten(t *testing.T) {
	for name, of := range map[string]func(i int) budgetKey{
		"subjects":  func(i int) budgetKey { return budgetKey{subject: fmt.Sprint(i), limits: limits{messages: 1}} },
		"addresses": func(i int) budgetKey { return budgetKey{addr: addrOf(i), limits: limits{messages: 1}} },
		"one":       func(int) budgetKey { return budgetKey{limits: limits{messages: 1}} },
	} {
		var k budgets
		now := time.Unix(0, 0)
		for i := range 10 * minBudgets {
			b := k.take(of(i), now)
			b.charge(1, 0, now) // full again after a second
			k.put(of(i), b, now)
			now = now.Add(2 * time.Millisecond)
		}
		if len(k.of) > 2*minBudgets {
			t.Errorf("%s: %d are remembered", name, len(k.of))
		}
		last := of(-1)
		k.put(last, k.take(last, now.Add(10*time.Hour)), now.Add(10*time.Hour))
		if _, there := k.of[last]; there {
			t.Errorf("%s: one that is as new is remembered", name)
		}
	}
}

func addrOf(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// TestBudgets_OfASubject is one for all its connections.
func TestBudgets_OfASubject(t *testing.T) {
	var k budgets
	of, now := budgetKey{subject: "alice", limits: limits{messages: 10, bytes: 1000}}, time.Unix(0, 0)
	first, second := k.take(of, now), k.take(of, now)
	if first != second {
		t.Error("each connection has its own")
	}
	first.charge(15, 0, now)
	k.put(of, first, now)
	k.put(of, second, now)
	if d := k.take(of, now).debt(now); d != 500*time.Millisecond {
		t.Errorf("after it has gone it owes %v, want half a second", d)
	}
	of.subject = "bob"
	if d := k.take(of, now).debt(now); d != 0 {
		t.Errorf("somebody else owes %v", d)
	}
}

// TestBudgets_OfAnAddress are each of one connection, and later ones go on with those that are left.
func TestBudgets_OfAnAddress(t *testing.T) {
	var k budgets
	of, now := budgetKey{addr: addrOf(1), limits: limits{messages: 10, bytes: 1000}}, time.Unix(0, 0)
	first, second := k.take(of, now), k.take(of, now)
	first.charge(15, 0, now)
	if d := second.debt(now); d != 0 {
		t.Errorf("a connection beside it owes %v", d)
	}
	second.charge(0, 2000, now)
	k.put(of, first, now)
	k.put(of, second, now)
	for _, want := range []time.Duration{500 * time.Millisecond, time.Second, 0} {
		if d := k.take(of, now).debt(now); d != want {
			t.Errorf("a connection that comes later owes %v, want %v", d, want)
		}
	}
}
