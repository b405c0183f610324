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

// vectors is testdata/classic.json: what a client of version 1 says and hears,
// byte for byte.
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

// UnmarshalText reads the bytes from hex digits.
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

// TestClassicVectors takes every frame of the vectors apart and builds it again
// from what was understood: it must come out byte for byte.
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

// TestClassicVectors_Closes says that a hub has its reason to close after each of these.
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

// splitAll returns the frames that b consists of and fails unless they fill it.
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
		t.Fatalf("%d frames, Frames says %d", len(frames), count)
	}
	return frames
}

// rebuildRequest returns what a client would have sent to say the same, or nil
// when the frame has no canonical form: questions whose payload is ignored, and
// types that a hub does not know.
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

// rebuildReply returns what a hub would have sent to say the same.
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
	t.Fatalf("a hub never sends type %d: %x", kind, frame)
	return nil
}

// checkRebuilt fails unless rebuilt is frame; nil means no canonical form.
func checkRebuilt(t *testing.T, frame, rebuilt []byte) {
	t.Helper()
	if rebuilt != nil && !bytes.Equal(rebuilt, frame) {
		t.Errorf("%x became %x", frame, rebuilt)
	}
}
