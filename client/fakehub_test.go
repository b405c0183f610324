package client

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// testTimeout is how long a test waits for an event that must happen.
const testTimeout = 30 * time.Second

// fakeHub is the other end of a connection of a client. The test plays the hub.
type fakeHub struct {
	t testing.TB
	net.Conn
}

// newTestClientV1 returns a v1 client with id 7 and its fakeHub, over net.Pipe.
func newTestClientV1(t testing.TB, options *Options) (*Client, *fakeHub) {
	t.Helper()
	near, far := net.Pipe()
	return newTestClientV1On(t, options, near, far)
}

// newTestClientV1TCP is newTestClientV1 over TCP, which has buffers.
func newTestClientV1TCP(t testing.TB, options *Options) (*Client, *fakeHub) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return newTestClientV1On(t, options, near, far)
}

func newTestClientV1On(t testing.TB, options *Options, near, far net.Conn) (*Client, *fakeHub) {
	t.Helper()
	v1Options := Options{Version: 1}
	if options != nil {
		v1Options = *options
		v1Options.Version = 1
	}
	h := &fakeHub{t, far}
	done := make(chan struct{})
	go func() { // ends when the client has its id
		defer close(done)
		h.wantBytes(wire.AppendIdentityRequest(nil))
		h.send(wire.AppendIdentity(nil, 7))
	}()
	c, err := NewConn(t.Context(), near, &v1Options)
	if err != nil {
		t.Fatal(err)
	}
	<-done
	t.Cleanup(func() {
		far.Close()
		c.Close()
	})
	return c, h
}

// send writes frames to the client. An error fails the test, unless the client has closed.
func (h *fakeHub) send(parts ...[]byte) {
	if _, err := h.Write(slices.Concat(parts...)); err != nil {
		h.t.Errorf("the hub cannot send: %v", err)
	}
}

// wantBytes reads the next bytes of the client, which must be want. It skips probes before them.
func (h *fakeHub) wantBytes(want []byte) {
	h.t.Helper()
	got := make([]byte, len(want))
	_, err := io.ReadFull(h, got)
	for err == nil && isProbe(got) && !isProbe(want) {
		more := make([]byte, len(probeFrame))
		_, err = io.ReadFull(h, more)
		got = append(got, more...)[len(probeFrame):]
	}
	if err != nil || !bytes.Equal(got, want) {
		h.t.Errorf("the client sent %d bytes % .20x… (%v), want %d: % .20x…", len(got), got, err, len(want), want)
	}
}

// wantEOF checks that the client sends nothing more.
func (h *fakeHub) wantEOF() {
	h.t.Helper()
	if extra, err := io.ReadAll(h); err != nil || len(extra) > 0 {
		h.t.Errorf("the client sent %d more bytes, and then %v", len(extra), err)
	}
}

// serve replies to every request, and calls relay for every relay, until the connection ends.
func (h *fakeHub) serve(relay func(wire.Relay)) {
	lists := uint64(0)
	for {
		typ, payload, err := h.readFrame()
		switch {
		case err != nil:
			return
		case typ == wire.TypeIdentity:
			h.send(wire.AppendIdentity(nil, 7))
		case typ == wire.TypeList:
			lists++
			h.send(wire.AppendList(nil, []uint64{lists}, nil))
		case relay != nil:
			r, err := wire.ParseRelay(payload)
			if err != nil {
				h.t.Error(err)
			}
			relay(r)
		}
	}
}

func (h *fakeHub) readFrame() (wire.Type, []byte, error) {
	var length [wire.LengthSize]byte
	if _, err := io.ReadFull(h, length[:]); err != nil {
		return 0, nil, err
	}
	frame := append(length[:], make([]byte, binary.BigEndian.Uint32(length[:]))...)
	if _, err := io.ReadFull(h, frame[wire.LengthSize:]); err != nil {
		return 0, nil, err
	}
	typ, payload := wire.Split(frame)
	return typ, payload, nil
}

// deliveryFrame returns a v1 delivery of body.
func deliveryFrame(body string) []byte { return wire.AppendRelayDelivery(nil, []byte(body)) }

// deliveryFrames returns deliveries of the bodies "0", "1" and so on.
func deliveryFrames(n int) (frames []byte) {
	for i := range n {
		frames = append(frames, deliveryFrame(fmt.Sprint(i))...)
	}
	return frames
}

// wantMessage receives the next message, which must be want.
func wantMessage(t testing.TB, c *Client, want string) Message {
	t.Helper()
	m, err := c.Receive(t.Context())
	if err != nil || string(m.Body) != want {
		t.Fatalf("received %.20q (%v), want %.20q", m.Body, err, want)
	}
	return m
}

// waitFor returns the next value of c. After testTimeout it fails the test.
func waitFor[T any](t testing.TB, description string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(testTimeout):
		t.Fatalf("timeout: %s", description)
		panic("not reached")
	}
}

// runAsync runs f in a goroutine and returns the channel for its result.
func runAsync[T any](f func() T) <-chan T {
	c := make(chan T, 1)
	go func() { c <- f() }() // ends with f
	return c
}

// isBlocked reports whether c has no value when all goroutines of the bubble are blocked. It
// must be called in a synctest bubble.
func isBlocked[T any](c <-chan T) bool {
	synctest.Wait()
	return len(c) == 0
}
