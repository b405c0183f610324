package hub

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// newSplitTunnel returns a clientTunnel that only splits bytes.
func newSplitTunnel() *clientTunnel {
	c := new(conn)
	c.account = body.NewBudget(1<<30, 0).NewAccount(1 << 30)
	return newClientTunnel(c)
}

// TestClientTunnel_SplitsWholeFrames cuts frames of many sizes into pieces at random.
func TestClientTunnel_SplitsWholeFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tunnel := newSplitTunnel()
		var sent, got []byte
		frames, gotFrames := 0, 0
		for i, size := range rapid.SliceOfN(rapid.IntRange(0, 40_000), 1, 20).Draw(t, "sizes") {
			if size == 0 {
				sent = append(sent, 0, 0, 0, 0) // an empty frame
			} else {
				sent = wire.AppendDeliver(sent, &wire.Deliver{Body: bytes.Repeat([]byte{byte(i)}, size%rapid.SampledFrom([]int{10, 50_000}).Draw(t, "kind"))})
			}
			frames++
		}
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), rapid.SampledFrom([]int{1, 3, 100, 16 << 10}).Draw(t, "piece"))
			batches, err := tunnel.split(rest[:n])
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			for _, b := range batches {
				got = append(got, b.Buffer.Bytes()[b.From:b.To]...)
				gotFrames += b.Frames
				if size, err := wire.Size(got[len(got)-(b.To-b.From):], maxTunnelFrame); err != nil || size == 0 {
					t.Fatal("a batch does not begin with a frame")
				}
				b.Buffer.Release()
			}
		}
		if !bytes.Equal(got, sent) || gotFrames != frames || tunnel.queued != uint64(len(sent)) {
			t.Fatalf("%d bytes in %d frames, want %d in %d", len(got), gotFrames, len(sent), frames)
		}
		if used := tunnel.conn.account.Held(); used != 0 {
			t.Fatalf("%d bytes are held", used)
		}
	})
}

// TestClientTunnel_PermitsMore follows how many bytes count as passed on.
func TestClientTunnel_PermitsMore(t *testing.T) {
	tunnel := newSplitTunnel()
	expect := func(step string, want uint64) {
		t.Helper()
		if got := tunnel.passed(); got != want {
			t.Errorf("%s: %d bytes passed on, want %d", step, got, want)
		}
	}
	receive := func(p []byte) (batches []outbox.Batch) {
		t.Helper()
		tunnel.received += uint64(len(p))
		batches, err := tunnel.split(p)
		if err != nil {
			t.Fatal(err)
		}
		return batches
	}
	large := wire.AppendDeliver(nil, &wire.Deliver{Body: make([]byte, 1000)})
	receive(large[:600])
	expect("part of a frame", 600)
	receive(large[600:])
	expect("the client has not accepted the frame", 0)
	receive(large[:100])
	expect("part of the next frame", 0)
	tunnel.waiting[0].frames, tunnel.written = 0, tunnel.queued // as HandleEvent does
	expect("the client has accepted the first frame", uint64(len(large)+100))
}

func TestClientTunnel_RejectsTooLongFrames(t *testing.T) {
	tunnel := newSplitTunnel()
	if _, err := tunnel.split([]byte{0xff, 0xff, 0xff, 0xff, 1}); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("error %v", err)
	}
}
