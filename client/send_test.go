package client

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

func TestSend_V1WritesRelay(t *testing.T) {
	c, h := newTestClientV1(t, nil)
	for _, to := range [][]uint64{nil, {1}, {3, 1, 3, 7}, make([]uint64, wire.MaxReceivers)} {
		for _, size := range []int{0, 1, 5000, 70_000, wire.DefaultMaxBody} {
			body := []byte(strings.Repeat("x", size))
			want := wire.AppendRelay(nil, to, body)
			sent := runAsync(func() error { return c.Send(t.Context(), to, body) })
			h.wantBytes(want)
			if err := waitFor(t, "Send", sent); err != nil {
				t.Errorf("%d bytes to %d clients: %v", size, len(to), err)
			}
		}
	}
}

// TestSend_OverLimitSendsNothing checks the next frame.
func TestSend_OverLimitSendsNothing(t *testing.T) {
	c, h := newTestClientV1(t, &Options{MaxBody: 100})
	var receivers *TooManyReceiversError
	err := c.Send(t.Context(), make([]uint64, 256), nil)
	if !errors.As(err, &receivers) || receivers.Receivers != 256 || !strings.Contains(err.Error(), "256 receivers, at most 255") {
		t.Errorf("256 receivers: %v", err)
	}
	var size *BodyTooLargeError
	err = c.Send(t.Context(), []uint64{1}, make([]byte, 101))
	if !errors.As(err, &size) || size.Size != 101 || size.Limit != 100 || !strings.Contains(err.Error(), "101 bytes, at most 100") {
		t.Errorf("a body of 101 bytes: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Send(ended, []uint64{1}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	if _, err := c.List(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("List with an ended context: %v", err)
	}
	sent := runAsync(func() error { return c.Send(t.Context(), []uint64{2}, make([]byte, 100)) })
	h.wantBytes(wire.AppendRelay(nil, []uint64{2}, make([]byte, 100)))
	if err := waitFor(t, "Send", sent); err != nil {
		t.Error(err)
	}
}

func TestSend_CopiesArguments(t *testing.T) {
	c, h := newTestClientV1(t, nil)
	to, body := []uint64{1, 2}, []byte("before")
	for _, size := range []int{6, 10_000} { // copied, and held by reference
		body = append(body[:6], make([]byte, size-6)...)
		want := wire.AppendRelay(nil, to, body)
		if err := c.Send(t.Context(), to, body); err != nil { // the hub does not read yet
			t.Fatal(err)
		}
		to[0], body[0] = 99, 'x'
		h.wantBytes(want)
		to[0], body[0] = 1, 'b'
	}
}
