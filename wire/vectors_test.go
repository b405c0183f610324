package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// vectors is the content of testdata/classic.json: the frames that version 1 clients send and
// receive, byte for byte.
type vectors struct {
	Exchanges []struct {
		Name  string
		Steps []struct {
			Send   hexBytes
			Expect map[string]hexBytes
		}
	}
	Closes []struct {
		Name string
		Send hexBytes
	}
}

type hexBytes []byte

// UnmarshalText decodes hex digits.
func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func loadVectors(t *testing.T) vectors {
	t.Helper()
	raw, err := os.ReadFile("testdata/classic.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Exchanges) == 0 || len(v.Closes) == 0 {
		t.Fatal("testdata/classic.json has no exchanges or no closes")
	}
	return v
}

// TestClassicVectors parses every frame of the vectors and rebuilds it from the result. The
// rebuilt frame must be identical.
func TestClassicVectors(t *testing.T) {
	for _, exchange := range loadVectors(t).Exchanges {
		t.Run(exchange.Name, func(t *testing.T) {
			for _, step := range exchange.Steps {
				for _, frame := range splitAll(t, step.Send) {
					checkRebuilt(t, frame, rebuildRequest(t, frame))
				}
				for _, client := range slices.Sorted(maps.Keys(step.Expect)) {
					for _, frame := range splitAll(t, step.Expect[client]) {
						checkRebuilt(t, frame, rebuildReply(t, frame))
					}
				}
			}
		})
	}
}

// TestClassicVectors_Closes checks that each frame after which the hub closes is too long or
// malformed.
func TestClassicVectors_Closes(t *testing.T) {
	for _, vector := range loadVectors(t).Closes {
		t.Run(vector.Name, func(t *testing.T) {
			size, err := wire.Size(vector.Send, defaultMaxLength)
			if errors.Is(err, wire.ErrTooLong) {
				return
			}
			if err != nil || size != len(vector.Send) {
				t.Fatalf("Size = %d, %v, want a whole frame", size, err)
			}
			kind, payload := wire.Split(vector.Send)
			if _, err := wire.ParseRelay(payload); kind != wire.TypeRelay || !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("type %d: %v, want %v", kind, err, wire.ErrMalformed)
			}
		})
	}
}

// splitAll returns the frames of b. It fails if b ends within a frame.
func splitAll(t *testing.T, b []byte) (frames [][]byte) {
	t.Helper()
	count, n := countFrames(b)
	if n != len(b) {
		t.Fatalf("Frames = %d frames, %d of %d bytes in %x", count, n, len(b), b)
	}
	for len(b) > 0 {
		size, err := wire.Size(b, defaultMaxLength)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		frames, b = append(frames, b[:size]), b[size:]
	}
	if len(frames) != count {
		t.Fatalf("%d frames, Frames yields %d", len(frames), count)
	}
	return frames
}

// rebuildRequest parses a frame of a client and encodes it again. It returns nil if the frame
// has no canonical form: a request with a payload that the hub ignores, or a type that the hub
// does not know.
func rebuildRequest(t *testing.T, frame []byte) []byte {
	t.Helper()
	kind, payload := wire.Split(frame)
	switch {
	case kind == wire.TypeIdentity && len(payload) == 0:
		return wire.AppendIdentityRequest(nil)
	case kind == wire.TypeList && len(payload) == 0:
		return wire.AppendListRequest(nil)
	case kind == wire.TypeRelay:
		relay, err := wire.ParseRelay(payload)
		if err != nil {
			t.Fatalf("%x: %v", frame, err)
		}
		return wire.AppendRelay(nil, relay.To.AppendTo(nil), relay.Body)
	}
	return nil
}

// rebuildReply parses a frame of a hub and encodes it again.
func rebuildReply(t *testing.T, frame []byte) []byte {
	t.Helper()
	kind, payload := wire.Split(frame)
	switch kind {
	case wire.TypeIdentity:
		id, err := wire.ParseIdentity(payload)
		if err != nil {
			t.Fatalf("%x: %v", frame, err)
		}
		return wire.AppendIdentity(nil, id)
	case wire.TypeList:
		ids, err := wire.ParseList(payload)
		if err != nil {
			t.Fatalf("%x: %v", frame, err)
		}
		return wire.AppendList(nil, ids.AppendTo(nil), nil)
	case wire.TypeRelay:
		return wire.AppendRelayDelivery(nil, payload)
	}
	t.Fatalf("type %d, which a hub never sends: %x", kind, frame)
	return nil
}

// checkRebuilt fails unless rebuilt equals frame or is nil, which means no canonical form.
func checkRebuilt(t *testing.T, frame, rebuilt []byte) {
	t.Helper()
	if rebuilt != nil && !bytes.Equal(rebuilt, frame) {
		t.Errorf("%x is rebuilt as %x", frame, rebuilt)
	}
}
