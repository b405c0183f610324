package hub

import (
	"testing"
	"time"
	"unsafe"
)

// afterSleep returns a time as time.Now returns it after the wall clock has jumped by whole
// seconds and the monotonic clock has not. The only way to make such a time is to know its
// representation.
func afterSleep(jump time.Duration) time.Time {
	t := time.Now()
	const secondsShift = 30
	(*struct{ wall uint64 })(unsafe.Pointer(&t)).wall += uint64(jump/time.Second) << secondsShift
	return t
}

// TestConn_ExpiryAfterSleep_UsesWallClock checks that expiry follows the wall clock, whether
// Expires has a monotonic clock reading or not.
func TestConn_ExpiryAfterSleep_UsesWallClock(t *testing.T) {
	until := time.Now().Add(8 * time.Hour)
	for _, jump := range []time.Duration{0, time.Hour, 9 * time.Hour, -time.Hour} {
		c := &conn{hub: &Hub{config: Config{now: func() time.Time { return afterSleep(jump) }}}}
		for _, c.permissions = range []*Permissions{{Expires: until}, {Expires: until.Round(0)}} {
			want := 8*time.Hour - jump
			if got := c.timeToExpiry(); got > want || got < want-time.Minute {
				t.Errorf("after a jump by %v: %v left, want %v", jump, got, want)
			}
		}
	}
}
