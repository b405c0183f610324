package hub

import (
	"testing"
	"testing/synctest"
)

// TestUnderWay_Wait_EndsBelowLimit releases until less than the limit is under way.
func TestUnderWay_Wait_EndsBelowLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := new(underWay)
		u.add(100)
		u.add(50)
		waited := make(chan bool, 1)
		go func() { waited <- u.wait(50, nil) }() // ends below 50 bytes
		for _, n := range []int{60, 40} {
			u.release(n)
			synctest.Wait()
			if len(waited) > 0 {
				t.Fatalf("wait ends with %d bytes under way", u.bytes.Load())
			}
		}
		u.release(1)
		if !<-waited {
			t.Error("wait says that it was stopped")
		}
		if u.release(49); !u.isBelow(1) {
			t.Errorf("%d bytes are under way", u.bytes.Load())
		}
	})
}

func TestUnderWay_Wait_EndsWithStop(t *testing.T) {
	stop := make(chan struct{})
	close(stop)
	u := new(underWay)
	if !u.wait(1, stop) {
		t.Error("wait waits for nothing")
	}
	u.add(1)
	if u.wait(1, stop) {
		t.Error("wait was not stopped")
	}
}
