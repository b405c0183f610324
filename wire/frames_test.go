package wire_test

import (
	"bytes"
	"runtime/metrics"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// defaultMaxLength is the maximum length field of a hub with default limits.
var defaultMaxLength = wire.MaxRequestLength(wire.DefaultMaxBody)

// exampleFrame is a valid frame, with the size that its XLen function returns.
type exampleFrame struct {
	name  string
	frame []byte
	kind  wire.Type
	size  int
}

// exampleFrames returns every frame of version 1 in its relevant shapes: empty, ordinary, at
// the limit. The tests of truncation and the fuzz targets start from these frames. Frames of
// version 2 are in roundTrips and testdata/version2.json.
func exampleFrames() []exampleFrame {
	full := make([]uint64, wire.MaxReceivers)
	for i := range full {
		full[i] = ^uint64(i)
	}
	body := []byte("foobar")
	return []exampleFrame{
		{"identity request", wire.AppendIdentityRequest(nil), wire.TypeIdentity, wire.IdentityRequestLen},
		{"identity", wire.AppendIdentity(nil, 1<<63|7), wire.TypeIdentity, wire.IdentityLen},
		{"list request", wire.AppendListRequest(nil), wire.TypeList, wire.ListRequestLen},
		{"list without ids", wire.AppendList(nil, nil, nil), wire.TypeList, wire.ListLen(0)},
		{"list of three", wire.AppendList(nil, []uint64{1}, []uint64{3, 4}), wire.TypeList, wire.ListLen(3)},
		{"relay to two", wire.AppendRelay(nil, []uint64{2, 3}, body), wire.TypeRelay, wire.RelayLen(2, len(body))},
		{"relay without receivers", wire.AppendRelay(nil, nil, body), wire.TypeRelay, wire.RelayLen(0, len(body))},
		{"relay without a body", wire.AppendRelay(nil, []uint64{2}, nil), wire.TypeRelay, wire.RelayLen(1, 0)},
		{"relay to 255", wire.AppendRelay(nil, full, body), wire.TypeRelay, wire.RelayLen(wire.MaxReceivers, len(body))},
		{"delivery", wire.AppendRelayDelivery(nil, body), wire.TypeRelay, wire.RelayDeliveryLen(len(body))},
		{"delivery without a body", wire.AppendRelayDelivery(nil, nil), wire.TypeRelay, wire.RelayDeliveryLen(0)},
	}
}

func TestFrame_SizeMatchesLen(t *testing.T) {
	for _, s := range exampleFrames() {
		t.Run(s.name, func(t *testing.T) {
			if len(s.frame) != s.size {
				t.Errorf("frame has %d bytes, XLen returns %d", len(s.frame), s.size)
			}
			if size, err := wire.Size(s.frame, defaultMaxLength); size != s.size || err != nil {
				t.Errorf("Size = %d, %v, want %d", size, err, s.size)
			}
			kind, payload := wire.Split(s.frame)
			if kind != s.kind || !bytes.Equal(payload, s.frame[wire.HeaderSize:]) {
				t.Errorf("Split = type %d, payload %x", kind, payload)
			}
		})
	}
}

// TestFrame_EveryTruncation cuts every frame at every byte. Size returns 0 before the length
// field is whole and the size of the frame afterwards. Frames does not yield the partial
// frame.
func TestFrame_EveryTruncation(t *testing.T) {
	for _, s := range exampleFrames() {
		t.Run(s.name, func(t *testing.T) {
			for cut := range len(s.frame) {
				prefix := s.frame[:cut:cut]
				want := s.size
				if cut < wire.LengthSize {
					want = 0
				}
				if size, err := wire.Size(prefix, defaultMaxLength); size != want || err != nil {
					t.Fatalf("%d of %d bytes: Size = %d, %v, want %d", cut, s.size, size, err, want)
				}
				if frames, n := countFrames(prefix); frames != 0 || n != 0 {
					t.Fatalf("%d of %d bytes: Frames = %d frames, %d bytes", cut, s.size, frames, n)
				}
			}
		})
	}
}

// seedPayloads adds the payload of every example frame to a fuzz corpus. A payload that is
// valid for one parser is malformed input for the others.
func seedPayloads(f *testing.F) {
	for _, s := range exampleFrames() {
		_, payload := wire.Split(s.frame)
		f.Add(payload)
	}
}

// wantMaxAlloc runs do and fails if do allocates more than maxBytes and a slack for error
// texts. It finds allocations whose size comes from an announced length. The counter is that
// of the whole process, and the fuzzing engine allocates too. wantMaxAlloc therefore fails
// only if every one of several runs exceeds the limit.
func wantMaxAlloc(t *testing.T, maxBytes int, do func()) {
	t.Helper()
	const slack, runs = 64 << 10, 10
	var got uint64
	for range runs {
		before := totalAllocBytes()
		do()
		if got = totalAllocBytes() - before; got <= uint64(maxBytes+slack) {
			return
		}
	}
	t.Fatalf("allocated %d bytes, want at most %d", got, maxBytes)
}

// totalAllocBytes returns the number of bytes that this process has allocated since its start.
func totalAllocBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// wantNoAllocs fails if do allocates.
func wantNoAllocs(t *testing.T, name string, do func()) {
	t.Helper()
	if n := testing.AllocsPerRun(100, do); n != 0 {
		t.Errorf("%s: %v allocations, want none", name, n)
	}
}

// countFrames returns the number of whole frames at the start of b, and their bytes in all.
func countFrames(b []byte) (frames, n int) {
	for frame := range wire.Frames(b) {
		frames++
		n += len(frame)
	}
	return frames, n
}
