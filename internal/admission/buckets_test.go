package admission

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestBucketStore_FullBuckets_AreRemoved checks that buckets are removed once they are full
// again: a flood of clients that connect and leave must not use memory forever.
func TestBucketStore_FullBuckets_AreRemoved(t *testing.T) {
	for name, key := range map[string]func(i int) bucketKey{
		"subjects":  func(i int) bucketKey { return bucketKey{subject: fmt.Sprint(i), rates: Rates{Messages: 1}} },
		"addresses": func(i int) bucketKey { return bucketKey{addr: testIP(i), rates: Rates{Messages: 1}} },
		"one":       func(int) bucketKey { return bucketKey{rates: Rates{Messages: 1}} },
	} {
		var bs BucketStore
		now := time.Unix(0, 0)
		for i := range 10 * minBucketKeys {
			b := bs.acquire(key(i), now)
			b.charge(1, 0, now) // full again after a second
			bs.release(key(i), b, now)
			now = now.Add(2 * time.Millisecond)
		}
		if len(bs.entries) > 2*minBucketKeys {
			t.Errorf("%s: %d buckets are left", name, len(bs.entries))
		}
		last := key(-1)
		bs.release(last, bs.acquire(last, now.Add(10*time.Hour)), now.Add(10*time.Hour))
		if _, ok := bs.entries[last]; ok {
			t.Errorf("%s: a full bucket is left", name)
		}
	}
}

func testIP(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// TestBucketStore_Subject_SharesOneBucket checks that all connections of a subject share one
// bucket, which outlives the connections while it is overdrawn.
func TestBucketStore_Subject_SharesOneBucket(t *testing.T) {
	var bs BucketStore
	key, now := bucketKey{subject: "alice", rates: Rates{Messages: 10, Bytes: 1000}}, time.Unix(0, 0)
	first, second := bs.acquire(key, now), bs.acquire(key, now)
	if first != second {
		t.Error("each connection has its own bucket")
	}
	first.charge(15, 0, now)
	bs.release(key, first, now)
	bs.release(key, second, now)
	if d := bs.acquire(key, now).delay(now); d != 500*time.Millisecond {
		t.Errorf("the delay after the connections were closed is %v, want half a second", d)
	}
	key.subject = "bob"
	if d := bs.acquire(key, now).delay(now); d != 0 {
		t.Errorf("the delay of another subject is %v", d)
	}
}

// TestBucketStore_Address_InheritsLeftBuckets checks that each connection of an address has
// its own bucket, and that a later connection takes over a bucket that an earlier connection
// has released.
func TestBucketStore_Address_InheritsLeftBuckets(t *testing.T) {
	var bs BucketStore
	key, now := bucketKey{addr: testIP(1), rates: Rates{Messages: 10, Bytes: 1000}}, time.Unix(0, 0)
	first, second := bs.acquire(key, now), bs.acquire(key, now)
	first.charge(15, 0, now)
	if d := second.delay(now); d != 0 {
		t.Errorf("the delay of a concurrent connection is %v", d)
	}
	second.charge(0, 2000, now)
	bs.release(key, first, now)
	bs.release(key, second, now)
	for _, want := range []time.Duration{500 * time.Millisecond, time.Second, 0} {
		if d := bs.acquire(key, now).delay(now); d != want {
			t.Errorf("the delay of a later connection is %v, want %v", d, want)
		}
	}
}

func TestRates_Lower(t *testing.T) {
	for _, test := range []struct{ a, b, want Rates }{
		{Rates{}, Rates{}, Rates{}},
		{Rates{Messages: 5}, Rates{}, Rates{Messages: 5}},
		{Rates{}, Rates{Bytes: 5}, Rates{Bytes: 5}},
		{Rates{1, 20}, Rates{2, 10}, Rates{1, 10}},
	} {
		if got := test.a.Lower(test.b); got != test.want {
			t.Errorf("%v and %v: %v, want %v", test.a, test.b, got, test.want)
		}
	}
}
