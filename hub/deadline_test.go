package hub

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeadline_StopFirstFrame_FailsWhenLate stops the time for the first frame before and after
// its end, and without a limit.
func TestDeadline_StopFirstFrame_FailsWhenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d deadline
		if err := d.stopFirstFrame(); err != nil {
			t.Errorf("without a limit: %v", err)
		}
		var ended atomic.Int32
		d.limitFirstFrame(time.Second, func() { ended.Add(1) })
		<-time.After(time.Second - 1)
		if err := d.stopFirstFrame(); err != nil || d.timer != nil {
			t.Errorf("in time: %v", err)
		}
		<-time.After(time.Second)
		if ended.Load() != 0 {
			t.Error("ended although the first frame came in time")
		}
		d.limitFirstFrame(time.Second, func() { ended.Add(1) })
		<-time.After(2 * time.Second)
		if err := d.stopFirstFrame(); err != errConnClosed || ended.Load() != 1 {
			t.Errorf("late: %v, ended %d times", err, ended.Load())
		}
	})
}

// TestDeadline_Expiry_EndsConnByWallClock has permissions expire an hour later. The wall clock
// jumps to a second before that time, which is noticed within clockCheckInterval.
func TestDeadline_Expiry_EndsConnByWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var jump atomic.Int64
		now := func() time.Time { return time.Now().Round(0).Add(time.Duration(jump.Load())) }
		c := newTestConn(t, Config{now: now})
		c.permissions.Store(&Permissions{Expires: now().Add(time.Hour)})
		c.deadline.setExpiry(c)
		<-time.After(30 * time.Minute)
		synctest.Wait()
		if c.done.IsSet() {
			t.Fatal("the connection ended too early")
		}
		jump.Store(int64(30*time.Minute - clockCheckInterval - time.Second))
		<-time.After(clockCheckInterval)
		synctest.Wait()
		if c.done.IsSet() {
			t.Fatal("the connection ended a second too early")
		}
		<-time.After(time.Second)
		synctest.Wait()
		if !c.done.IsSet() || c.hub.Stats().Disconnected[CloseExpired] != 1 {
			t.Error("the connection has not ended with its permissions")
		}
		c.deadline.stop()
	})
}

// TestDeadline_SetExpiry_FollowsReplacedPermissions replaces permissions by ones that expire
// later, never, and earlier, also while the timer looks at them.
func TestDeadline_SetExpiry_FollowsReplacedPermissions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestConn(t, Config{})
		setExpiry := func(after time.Duration) {
			var p Permissions
			if after > 0 {
				p.Expires = time.Now().Add(after)
			}
			c.permissions.Store(&p)
			c.deadline.setExpiry(c)
		}
		wantOpen := func(after time.Duration) {
			t.Helper()
			<-time.After(after)
			synctest.Wait()
			if c.done.IsSet() {
				t.Fatal("the connection ended too early")
			}
		}
		setExpiry(0)
		setExpiry(time.Minute)
		wantOpen(time.Minute - 1)
		setExpiry(time.Hour) // a nanosecond before the end
		wantOpen(time.Hour - 1)
		setExpiry(0)
		wantOpen(24 * time.Hour)
		looking := make(chan struct{})
		go func() { // ends after its loop; the test waits
			defer close(looking)
			for range 1000 {
				c.deadline.checkExpiry(c)
			}
		}()
		for range 1000 {
			setExpiry(time.Hour)
			setExpiry(time.Minute)
		}
		setExpiry(time.Hour)
		setExpiry(time.Second)
		<-looking
		wantOpen(time.Second - 1)
		<-time.After(1)
		synctest.Wait()
		if !c.done.IsSet() || c.hub.Stats().Disconnected[CloseExpired] != 1 {
			t.Error("the connection has not ended with the last permissions")
		}
		c.deadline.stop()
	})
}
