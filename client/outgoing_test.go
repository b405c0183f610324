package client

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// comeBackWithout has the hub take some bytes of what the client says, lose its connection after a while, and greet it
// on the next one as a hub that has had nothing.
func (d *dialog) comeBackWithout(h *fakeHub, bytes int, while time.Duration) *fakeHub {
	d.t.Helper()
	if _, err := io.ReadFull(h, make([]byte, bytes)); err != nil {
		d.t.Error(err)
	}
	time.Sleep(while)
	h.Close()
	d.wantEvent(EventDisconnected)
	h = <-d.hubs
	h.greet(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, resumed(func(*wire.Welcome) {}))
	d.wantEvent(EventResumed)
	return h
}

// TestOutgoing_MessageThatDoesNotGetThrough is lost with its connection again and again. It fails, and what is behind it
// is sent.
func TestOutgoing_MessageThatDoesNotGetThrough(t *testing.T) {
	for _, reported := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			d, h := speak(t, func(o *Options) { o.MaxQueued = 5000 })
			failed := make(chan error, 1)
			large := strings.Repeat("x", 900)
			var err error
			if reported {
				err = d.client.SendFunc(t.Context(), []uint64{1}, []byte(large), nil, func(_ *Report, err error) { failed <- err })
			} else {
				err = d.client.Send(t.Context(), []uint64{1}, []byte(large))
			}
			if err == nil {
				err = d.client.Send(t.Context(), []uint64{1}, []byte("behind"))
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 4 {
				h = d.comeBackWithout(h, 500, 4*time.Second)
			}
			if len(failed) > 0 {
				t.Error("given up after 4 attempts")
			}
			h = d.comeBackWithout(h, 500, 4*time.Second)
			if reported {
				err = <-failed
			} else {
				err = d.wantEvent(EventRefused).Err
			}
			if !errors.Is(err, ErrUndeliverable) {
				t.Errorf("failed with %v, want %v", err, ErrUndeliverable)
			}
			h.want(send(2, "behind"))
			h.send(wire.AppendTaken(nil, 2))
			if err := d.client.Send(t.Context(), []uint64{1}, []byte("after")); err != nil {
				t.Error(err)
			}
			h.want(send(3, "after"))
		})
	}
}

// TestOutgoing_CutsAloneDoNotFail loses connections so fast that they say nothing about the message.
func TestOutgoing_CutsAloneDoNotFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := speak(t, nil)
		for _, body := range []string{"first", "second"} {
			if err := d.client.Send(t.Context(), []uint64{1}, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		for range 50 {
			h = d.comeBackWithout(h, 10, 100*time.Millisecond)
		}
		h.want(slices.Concat(send(1, "first"), send(2, "second")))
	})
}
