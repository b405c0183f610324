package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

func TestIdentity_RoundTrip(t *testing.T) {
	for _, id := range []uint64{0, 1, 255, 1 << 32, 1 << 63, ^uint64(0)} {
		_, payload := wire.Split(wire.AppendIdentity(nil, id))
		if got, err := wire.ParseIdentity(payload); got != id || err != nil {
			t.Errorf("ParseIdentity = %d, %v, want %d", got, err, id)
		}
	}
}

func TestParseIdentity_WrongLength(t *testing.T) {
	payload := make([]byte, 3*wire.IDSize)
	for n := range payload {
		_, err := wire.ParseIdentity(payload[:n])
		if want := n != wire.IDSize; want != errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestAppendIdentity_KeepsPrefix(t *testing.T) {
	got := wire.AppendIdentity(wire.AppendIdentityRequest([]byte("x")), 2)
	want := []byte("x\x00\x00\x00\x01\x01\x00\x00\x00\x09\x01\x00\x00\x00\x00\x00\x00\x00\x02")
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func FuzzIdentity(f *testing.F) {
	seedPayloads(f)
	f.Fuzz(func(t *testing.T, payload []byte) {
		wantMaxAlloc(t, len(payload), func() {
			id, err := wire.ParseIdentity(payload)
			if err != nil {
				if !errors.Is(err, wire.ErrMalformed) || len(payload) == wire.IDSize {
					t.Fatalf("%d bytes: %v", len(payload), err)
				}
				return
			}
			if encoded := wire.AppendIdentity(nil, id); !bytes.Equal(encoded[wire.HeaderSize:], payload) {
				t.Fatalf("%x is rebuilt as %x", payload, encoded)
			}
			if id != binary.BigEndian.Uint64(payload) {
				t.Fatalf("%x is parsed as %d", payload, id)
			}
		})
	})
}

func BenchmarkAppendIdentity(b *testing.B) {
	buffer := make([]byte, 0, wire.IdentityLen)
	b.ReportAllocs()
	for b.Loop() {
		wire.AppendIdentity(buffer, 7)
	}
}
