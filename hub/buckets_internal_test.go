package hub

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestBucketStore_FullBuckets_AreRemoved when they are full again: a flood of clients that come and go must not be
// remembered for ever.
func TestBucketStore_FullBuckets_AreRemoved(t *testing.T) {
	for name, key := range map[string]func(i int) bucketKey{
		"subjects":  func(i int) bucketKey { return bucketKey{subject: fmt.Sprint(i), limits: rateLimits{messages: 1}} },
		"addresses": func(i int) bucketKey { return bucketKey{addr: testIP(i), limits: rateLimits{messages: 1}} },
		"one":       func(int) bucketKey { return bucketKey{limits: rateLimits{messages: 1}} },
	} {
		var bs bucketStore
		now := time.Unix(0, 0)
		for i := range 10 * minBucketKeys {
			b := bs.acquire(key(i), now)
			b.charge(1, 0, now) // full again after a second
			bs.release(key(i), b, now)
			now = now.Add(2 * time.Millisecond)
		}
		if len(bs.entries) > 2*minBucketKeys {
			t.Errorf("%s: %d are remembered", name, len(bs.entries))
		}
		last := key(-1)
		bs.release(last, bs.acquire(last, now.Add(10*time.Hour)), now.Add(10*time.Hour))
		if _, ok := bs.entries[last]; ok {
			t.Errorf("%s: one that is as new is remembered", name)
		}
	}
}

func testIP(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// TestBucketStore_Subject_SharesOneBucket is one for all its connections.
func TestBucketStore_Subject_SharesOneBucket(t *testing.T) {
	var bs bucketStore
	key, now := bucketKey{subject: "alice", limits: rateLimits{messages: 10, bytes: 1000}}, time.Unix(0, 0)
	first, second := bs.acquire(key, now), bs.acquire(key, now)
	if first != second {
		t.Error("each connection has its own")
	}
	first.charge(15, 0, now)
	bs.release(key, first, now)
	bs.release(key, second, now)
	if d := bs.acquire(key, now).delay(now); d != 500*time.Millisecond {
		t.Errorf("after it has gone it owes %v, want half a second", d)
	}
	key.subject = "bob"
	if d := bs.acquire(key, now).delay(now); d != 0 {
		t.Errorf("somebody else owes %v", d)
	}
}

// TestBucketStore_Address_InheritsLeftBuckets are each of one connection, and later ones go on with those that are left.
func TestBucketStore_Address_InheritsLeftBuckets(t *testing.T) {
	var bs bucketStore
	key, now := bucketKey{addr: testIP(1), limits: rateLimits{messages: 10, bytes: 1000}}, time.Unix(0, 0)
	first, second := bs.acquire(key, now), bs.acquire(key, now)
	first.charge(15, 0, now)
	if d := second.delay(now); d != 0 {
		t.Errorf("a connection beside it owes %v", d)
	}
	second.charge(0, 2000, now)
	bs.release(key, first, now)
	bs.release(key, second, now)
	for _, want := range []time.Duration{500 * time.Millisecond, time.Second, 0} {
		if d := bs.acquire(key, now).delay(now); d != want {
			t.Errorf("a connection that comes later owes %v, want %v", d, want)
		}
	}
}
