package membus

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/cluster"
)

// inbox collects the frames of one carrier.
type inbox struct {
	mu     sync.Mutex
	frames []string
	times  []time.Duration // when they arrived, since begin
	begin  time.Time
}

func (in *inbox) handle(frame []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.frames = append(in.frames, string(frame))
	in.times = append(in.times, time.Since(in.begin))
}

// take returns the frames that have arrived since the last call.
func (in *inbox) take() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	frames := in.frames
	in.frames = nil
	return frames
}

// testBus is a bus with the nodes 1 to 3, within a bubble.
type testBus struct {
	*Bus
	t        *testing.T
	carriers [4]*Carrier // by node
	inboxes  [4]*inbox
}

// onBus runs test in a bubble.
func onBus(t *testing.T, seed uint64, test func(t *testing.T, b *testBus)) {
	synctest.Test(t, func(t *testing.T) {
		b := &testBus{Bus: New(seed), t: t}
		for node := 1; node < len(b.carriers); node++ {
			b.inboxes[node] = &inbox{begin: time.Now()}
			b.carriers[node] = b.Join(cluster.Node(node))
			b.carriers[node].Receive(b.inboxes[node].handle)
		}
		defer func() {
			for _, c := range b.carriers[1:] {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		}()
		test(t, b)
	})
}

func (b *testBus) send(from, to cluster.Node, frame string) {
	b.t.Helper()
	if err := b.carriers[from].Send(to, []byte(frame)); err != nil {
		b.t.Errorf("send %q from %d to %d: %v", frame, from, to, err)
	}
}

func (b *testBus) wantFrames(node cluster.Node, want ...string) {
	b.t.Helper()
	synctest.Wait()
	if got := b.inboxes[node].take(); !slices.Equal(got, want) {
		b.t.Errorf("node %d gets %q, want %q", node, got, want)
	}
}

// sendNumbered sends n frames from 1 to 2 and returns what arrives within a second.
func (b *testBus) sendNumbered(n int) []string {
	for i := range n {
		b.send(1, 2, fmt.Sprintf("%04d", i))
	}
	time.Sleep(time.Second)
	synctest.Wait()
	return b.inboxes[2].take()
}

func TestBus_WithoutFaults(t *testing.T) {
	onBus(t, 1, func(t *testing.T, b *testBus) {
		b.send(1, 2, "one")
		b.send(1, 2, "two")
		b.send(3, 3, "to itself")
		b.send(2, 0, "to all")
		b.send(2, 1, "")
		b.send(1, 4, "to nobody")
		b.wantFrames(1, "to all", "")
		b.wantFrames(2, "one", "two")
		b.wantFrames(3, "to itself", "to all")
		want := Counts{Sent: 7, Lost: 1, Delivered: 6, Bytes: 3 + 3 + 9 + 2*6 + 9}
		if got := b.Counts(); got != want {
			t.Errorf("counts are %+v, want %+v", got, want)
		}
	})
}

func TestBus_Delay_KeepsOrder(t *testing.T) {
	onBus(t, 1, func(t *testing.T, b *testBus) {
		b.SetFaults(Faults{MinDelay: 10 * time.Millisecond, MaxDelay: 50 * time.Millisecond})
		got := b.sendNumbered(100)
		if len(got) != 100 || !slices.IsSorted(got) {
			t.Errorf("got %d frames: %v", len(got), got)
		}
		times := b.inboxes[2].times
		if first, last := times[0], times[len(times)-1]; first < 10*time.Millisecond || last > 50*time.Millisecond || first == last {
			t.Errorf("frames arrive from %v to %v", first, last)
		}
	})
}

func TestBus_Faults_HaveTheirShare(t *testing.T) {
	const n = 2000
	onBus(t, 7, func(t *testing.T, b *testBus) {
		b.SetFaults(Faults{Loss: 0.25})
		if got := len(b.sendNumbered(n)); got < n*70/100 || got > n*80/100 {
			t.Errorf("%d of %d frames arrive", got, n)
		}
		b.SetFaults(Faults{Duplication: 0.25})
		if got := len(b.sendNumbered(n)); got < n*120/100 || got > n*130/100 {
			t.Errorf("%d of %d frames arrive", got, n)
		}
		b.SetFaults(Faults{Reorder: 0.25, MaxDelay: 100 * time.Millisecond})
		got := b.sendNumbered(n)
		if len(got) != n || slices.IsSorted(got) {
			t.Errorf("%d of %d frames arrive, in order: %v", len(got), n, slices.IsSorted(got))
		}
	})
}

// TestBus_Seed_Determines runs the same frames twice with one seed and once with another, and
// frames of another route at the same time.
func TestBus_Seed_Determines(t *testing.T) {
	run := func(seed uint64, others bool) (frames []string) {
		onBus(t, seed, func(t *testing.T, b *testBus) {
			b.SetFaults(Faults{Loss: 0.2, Duplication: 0.2, Reorder: 0.2, MaxDelay: 100 * time.Millisecond})
			if others {
				b.send(1, 3, "another route")
				b.send(3, 2, "another route")
			}
			frames = slices.DeleteFunc(b.sendNumbered(100), func(frame string) bool { return frame == "another route" })
		})
		return frames
	}
	first := run(1, false)
	if again := run(1, true); !reflect.DeepEqual(again, first) {
		t.Errorf("one seed, two results:\n%v\n%v", first, again)
	}
	if other := run(2, false); reflect.DeepEqual(other, first) {
		t.Error("two seeds have one result")
	}
}

func TestBus_Cut(t *testing.T) {
	onBus(t, 1, func(t *testing.T, b *testBus) {
		b.Cut(1, 2)
		b.send(1, 2, "lost")
		b.send(2, 1, "lost")
		b.send(1, 0, "to all")
		b.wantFrames(1)
		b.wantFrames(2)
		b.wantFrames(3, "to all")
		b.Heal(2, 1)
		b.send(1, 2, "healed")
		b.send(2, 1, "healed")
		b.wantFrames(1, "healed")
		b.wantFrames(2, "healed")

		b.SetFaults(Faults{MinDelay: time.Second, MaxDelay: time.Second})
		b.send(1, 2, "on its way")
		b.Cut(2, 1)
		time.Sleep(2 * time.Second)
		b.wantFrames(2)
		if got := b.Counts().Cut; got != 4 {
			t.Errorf("%d frames are cut, want 4", got)
		}
	})
}

func TestBus_Isolate(t *testing.T) {
	onBus(t, 1, func(t *testing.T, b *testBus) {
		b.Isolate(1)
		if err := b.carriers[1].Send(2, []byte("x")); !errors.Is(err, ErrIsolated) {
			t.Errorf("an isolated hub sends: %v", err)
		}
		b.send(2, 0, "to all")
		b.wantFrames(1)
		b.wantFrames(3, "to all")
		b.Rejoin(1)
		b.send(1, 0, "back")
		b.wantFrames(2, "back")
		b.wantFrames(3, "back")
	})
}

func TestBus_Join_PanicsForTakenNode(t *testing.T) {
	onBus(t, 1, func(t *testing.T, b *testBus) {
		for _, node := range []cluster.Node{0, 1} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("node %d joins", node)
					}
				}()
				b.Join(node)
			}()
		}
	})
}

func TestCarrier_Send_TooLarge(t *testing.T) {
	onBus(t, 1, func(t *testing.T, b *testBus) {
		b.send(1, 2, string(bytes.Repeat([]byte{'x'}, cluster.MaxFrame)))
		if err := b.carriers[1].Send(2, make([]byte, cluster.MaxFrame+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a frame that is too large: %v", err)
		}
	})
}
