package natscluster

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/cluster"
)

func TestCarrier_FramesOfAllSizes(t *testing.T) {
	s := startNATS(t, nil)
	a, b := join(t, testConfig(s)), join(t, testConfig(s))
	received := map[*Cluster]<-chan string{a: receiveFrames(a.Carrier()), b: receiveFrames(b.Carrier())}
	for _, size := range []int{0, 1, 100, 32<<10 - 1, 32 << 10, cluster.MaxFrame - 1, cluster.MaxFrame} {
		for from, to := range map[*Cluster]*Cluster{a: b, b: a} {
			frame := bytes.Repeat([]byte{byte(from.Node())}, size)
			if err := from.Carrier().Send(to.Node(), frame); err != nil {
				t.Fatal(err)
			}
			if got := next(t, received[to]); got != string(frame) {
				t.Errorf("%d bytes from hub %d: received %d bytes", size, from.Node(), len(got))
			}
		}
	}
	if err := a.Carrier().Send(b.Node(), make([]byte, cluster.MaxFrame+1)); err == nil {
		t.Error("Send of a frame that is too large returned no error")
	}
}

// TestCarrier_Broadcast checks that a frame for all comes to all others, and not back.
func TestCarrier_Broadcast(t *testing.T) {
	s := startNATS(t, nil)
	a, b, c := join(t, testConfig(s)), join(t, testConfig(s)), join(t, testConfig(s))
	framesA, framesB, framesC := receiveFrames(a.Carrier()), receiveFrames(b.Carrier()), receiveFrames(c.Carrier())
	if err := a.Carrier().Send(0, []byte("all")); err != nil {
		t.Fatal(err)
	}
	if gotB, gotC := next(t, framesB), next(t, framesC); gotB != "all" || gotC != "all" {
		t.Errorf("%q, %q", gotB, gotC)
	}
	if err := b.Carrier().Send(a.Node(), []byte("one")); err != nil {
		t.Fatal(err)
	}
	if got := next(t, framesA); got != "one" {
		t.Errorf("the sender received %q", got)
	}
}

// TestCarrier_ProbesAreNoFrames checks that a hub that joins is not noticed by the carriers.
func TestCarrier_ProbesAreNoFrames(t *testing.T) {
	s := startNATS(t, nil)
	a := join(t, testConfig(s))
	frames := receiveFrames(a.Carrier())
	b := join(t, testConfig(s))
	if err := b.Carrier().Send(0, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if got := next(t, frames); got != "first" {
		t.Errorf("%q", got)
	}
}

func TestCarrier_KeepsOrder(t *testing.T) {
	s := startNATS(t, nil)
	a, b := join(t, testConfig(s)), join(t, testConfig(s))
	frames := receiveFrames(b.Carrier())
	for i := range 500 {
		if err := a.Carrier().Send(b.Node(), []byte(strings.Repeat("x", i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 500 {
		if got := next(t, frames); len(got) != i {
			t.Fatalf("frame %d has %d bytes", i, len(got))
		}
	}
}

func TestCarrier_CloseEndsReceiving(t *testing.T) {
	s := startNATS(t, nil)
	a, b := join(t, testConfig(s)), join(t, testConfig(s))
	frames := receiveFrames(a.Carrier())
	if err := a.Carrier().Close(); err != nil {
		t.Fatal(err)
	}
	a.receive([]byte("late"))
	if err := b.Carrier().Send(a.Node(), []byte("late")); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if len(frames) != 0 {
		t.Errorf("received %q after Close", <-frames)
	}
}

// TestCarrier_FramesWaitForSlowHub checks that frames that come faster than they are handled wait
// in NATS, and that none is lost.
func TestCarrier_FramesWaitForSlowHub(t *testing.T) {
	const frames, size = 500, 32 << 10 // more than the sockets hold
	s := startNATS(t, nil)
	a, b := join(t, testConfig(s)), join(t, testConfig(s))
	begun, release, handled := make(chan struct{}, frames), make(chan struct{}), make(chan byte, frames)
	a.Carrier().Receive(func(frame []byte) {
		begun <- struct{}{}
		<-release
		handled <- frame[0]
	})
	for i := range frames {
		if err := b.Carrier().Send(a.Node(), bytes.Repeat([]byte{byte(i)}, size)); err != nil {
			t.Fatal(err)
		}
	}
	next(t, begun)
	close(release)
	for i := range frames {
		if got := next(t, handled); got != byte(i) {
			t.Fatalf("frame %d is that with the byte %d", i, got)
		}
	}
}
