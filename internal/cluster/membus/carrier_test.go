package membus

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestCarrier_Receive_OverwritesFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := New(1)
		sender, receiver := bus.Join(1), bus.Join(2)
		defer sender.Close()
		defer receiver.Close()
		var kept [][]byte
		receiver.Receive(func(frame []byte) { kept = append(kept, frame) })
		frame := []byte("frame")
		if err := sender.Send(2, frame); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(kept) != 1 || bytes.Equal(kept[0], []byte("frame")) {
			t.Errorf("handle keeps %q", kept)
		}
		if string(frame) != "frame" {
			t.Errorf("the sender's frame is %q", frame)
		}
	})
}

func TestCarrier_Receive_BeforeFramesAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := New(1)
		sender, receiver := bus.Join(1), bus.Join(2)
		defer sender.Close()
		defer receiver.Close()
		if err := sender.Send(2, []byte("early")); err != nil {
			t.Fatal(err)
		}
		var in inbox
		receiver.Receive(in.handle)
		if err := sender.Send(2, []byte("in time")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := in.take(); len(got) != 1 || got[0] != "in time" {
			t.Errorf("got %q", got)
		}
	})
}

// TestCarrier_Close_WaitsForHandle closes a carrier while its handle runs and further frames wait.
func TestCarrier_Close_WaitsForHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := New(1)
		sender, receiver := bus.Join(1), bus.Join(2)
		defer sender.Close()
		calls, returned := 0, false
		receiver.Receive(func([]byte) {
			calls++
			time.Sleep(time.Second)
			returned = true
		})
		for range 3 {
			if err := sender.Send(2, []byte("frame")); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		receiver.Close()
		if calls != 1 || !returned {
			t.Errorf("handle was called %d times, has returned: %v", calls, returned)
		}
		if err := receiver.Send(1, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed carrier sends: %v", err)
		}
		receiver.Close()
		if got := bus.Counts(); got.Delivered != 1 || got.Lost != 2 {
			t.Errorf("counts are %+v", got)
		}
		again := bus.Join(2)
		defer again.Close()
		var in inbox
		again.Receive(in.handle)
		if err := sender.Send(2, []byte("again")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := in.take(); len(got) != 1 || got[0] != "again" {
			t.Errorf("after joining again: %q", got)
		}
	})
}
