package reclaim

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// TestRequestAcks_LargestHolders checks which clients are asked for acknowledgements: those with
// at least half of the average.
func TestRequestAcks_LargestHolders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var conns []*fakeConn
		held := []int{0, 1, 40, 60, 299} // half of the average of those that hold is 50
		for _, n := range held {
			conns = append(conns, &fakeConn{rate: minRate, acks: outbox.AckStats{HeldBytes: n}})
		}
		r := startReclaimer(t, conns...)
		r.wait(t)
		for i, c := range conns {
			requests, _, _ := c.count()
			if want := held[i] >= 50; (requests > 0) != want {
				t.Errorf("a client that holds %d bytes was asked %d times, want %t", held[i], requests, want)
			}
		}
		before, _, _ := conns[4].count()
		pass(10 * quickPassInterval)
		if after, _, _ := conns[4].count(); after < before+5 || after > before+11 {
			t.Errorf("asked %d times in %v", after-before, 10*quickPassInterval)
		}
	})
}

// TestDropUnacked checks from which clients the unacknowledged messages are taken while another
// client waits, and when.
func TestDropUnacked(t *testing.T) {
	for name, test := range map[string]struct {
		rate int64
		acks outbox.AckStats
		want bool
	}{
		"it acknowledges nothing":        {0, outbox.AckStats{Written: 10, Acked: 5, HeldBytes: 1000}, true},
		"it acknowledges slowly":         {minRate - 10, outbox.AckStats{Written: 10, Acked: 5, HeldBytes: 1000}, true},
		"it acknowledges fast enough":    {minRate + 10, outbox.AckStats{Written: 10, Acked: 5, HeldBytes: 1000}, false},
		"nothing is held":                {0, outbox.AckStats{Written: 10, Acked: 5}, false},
		"it has acknowledged everything": {0, outbox.AckStats{Written: 10, Acked: 10, HeldBytes: 1000}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &fakeConn{rate: test.rate, acks: test.acks}
				r := startReclaimer(t, c)
				begin := time.Now()
				r.waitForQuota(t) // not even in the budget
				pass(minRetention / 2)
				if _, drops, _ := c.count(); drops > 0 {
					t.Error("dropped before the client could acknowledge")
				}
				pass(2 * stallTimeout)
				if _, drops, _ := c.count(); (drops == 1) != test.want || drops > 1 {
					t.Errorf("dropped %d times, want %t", drops, test.want)
				} else if took := c.at.Sub(begin); drops == 1 && took > 2*minRetention {
					t.Errorf("dropped after %v", took)
				}
			})
		})
	}
}

// TestDropUnacked_WaitersLeave has clients wait only briefly: the client that acknowledges
// nothing keeps its messages.
func TestDropUnacked_WaitersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeConn{acks: outbox.AckStats{Written: 10, HeldBytes: 1000}}
		r := startReclaimer(t, c)
		for range 10 {
			end := r.wait(t)
			pass(minRetention / 10)
			end()
			pass(minRetention)
		}
		if _, drops, _ := c.count(); drops > 0 {
			t.Errorf("dropped %d times", drops)
		}
	})
}
