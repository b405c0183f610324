package wire_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

func TestAppendList_OmitsRequester(t *testing.T) {
	connected := []uint64{1, 2, 3, 4}
	tests := []struct {
		asked int
		want  []uint64
	}{
		{0, []uint64{2, 3, 4}},
		{1, []uint64{1, 3, 4}},
		{3, []uint64{1, 2, 3}},
	}
	for _, tt := range tests {
		_, payload := wire.Split(wire.AppendList(nil, connected[:tt.asked], connected[tt.asked+1:]))
		ids, err := wire.ParseList(payload)
		if got := ids.AppendTo(nil); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("omitting %d: %v, %v, want %v", connected[tt.asked], got, err, tt.want)
		}
	}
}

func TestParseList_PartialID(t *testing.T) {
	payload := make([]byte, 4*wire.IDSize)
	for n := range payload {
		ids, err := wire.ParseList(payload[:n])
		if want := n%wire.IDSize != 0; want != errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if err == nil && ids.Len() != n/wire.IDSize {
			t.Errorf("%d bytes: %d ids", n, ids.Len())
		}
	}
}

func FuzzList(f *testing.F) {
	seedPayloads(f)
	f.Fuzz(func(t *testing.T, payload []byte) {
		// The ids as numbers and the rebuilt frame take the size of the input each, and
		// append grows by doubling.
		wantMaxAlloc(t, 4*len(payload), func() {
			ids, err := wire.ParseList(payload)
			if err != nil {
				if !errors.Is(err, wire.ErrMalformed) || len(payload)%wire.IDSize == 0 {
					t.Fatalf("%d bytes: %v", len(payload), err)
				}
				return
			}
			checkView(t, "ids", ids, payload)
			parsed := ids.AppendTo(nil)
			half := len(parsed) / 2
			if encoded := wire.AppendList(nil, parsed[:half], parsed[half:]); !bytes.Equal(encoded[wire.HeaderSize:], payload) {
				t.Fatalf("%x is rebuilt as %x", payload, encoded)
			}
		})
	})
}

// checkView fails unless view is want itself, not a copy of want.
func checkView(t *testing.T, name string, view, want []byte) {
	t.Helper()
	if len(view) != len(want) || (len(view) > 0 && &view[0] != &want[0]) {
		t.Fatalf("%s are not a view of the payload: %x, want %x", name, view, want)
	}
}

// BenchmarkAppendList encodes the answer to a LIST request on a hub with 1,000 clients.
func BenchmarkAppendList(b *testing.B) {
	ids := make([]uint64, 1000)
	buffer := make([]byte, 0, wire.ListLen(len(ids)))
	b.ReportAllocs()
	b.SetBytes(int64(wire.ListLen(len(ids))))
	for b.Loop() {
		wire.AppendList(buffer, ids[:500], ids[500:])
	}
}
