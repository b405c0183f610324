package wire_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

func TestRelay_RoundTrip(t *testing.T) {
	tests := []struct {
		name string
		to   []uint64
		body []byte
	}{
		{"no receivers, empty body", nil, nil},
		{"no receivers", nil, []byte("foo")},
		{"empty body", []uint64{3}, nil},
		{"to the largest id", []uint64{^uint64(0)}, []byte("u")},
		{"the same receiver three times", []uint64{3, 3, 3}, []byte("d")},
		{"to 255", slices.Repeat([]uint64{1 << 40}, wire.MaxReceivers), []byte("foobar")},
		{"largest body", []uint64{1}, bytes.Repeat([]byte{7}, wire.DefaultMaxBody)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, payload := wire.Split(wire.AppendRelay(nil, tt.to, tt.body))
			relay, err := wire.ParseRelay(payload)
			if err != nil {
				t.Fatal(err)
			}
			if got := relay.To.AppendTo(nil); !slices.Equal(got, tt.to) {
				t.Errorf("To = %v, want %v", got, tt.to)
			}
			if !bytes.Equal(relay.Body, tt.body) {
				t.Errorf("Body of %d bytes, want %d", len(relay.Body), len(tt.body))
			}
		})
	}
}

// TestParseRelay_EveryTruncation cuts the payload of a RELAY at every byte. The payload is
// malformed until the last id is whole. From there on the rest is the body.
func TestParseRelay_EveryTruncation(t *testing.T) {
	for _, receivers := range []int{0, 1, 2, wire.MaxReceivers} {
		_, payload := wire.Split(wire.AppendRelay(nil, make([]uint64, receivers), []byte("foobar")))
		minLen := 1 + receivers*wire.IDSize
		for cut := range len(payload) {
			relay, err := wire.ParseRelay(payload[:cut:cut])
			if want := cut < minLen; want != errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("%d receivers, %d bytes: %v", receivers, cut, err)
			}
			if err == nil && len(relay.Body) != cut-minLen {
				t.Fatalf("%d receivers, %d bytes: body of %d", receivers, cut, len(relay.Body))
			}
		}
	}
}

// TestParseRelay_AppendToReceiversKeepsBody checks that an append to Relay.To does not overwrite
// Relay.Body, which follows it in the payload.
func TestParseRelay_AppendToReceiversKeepsBody(t *testing.T) {
	_, payload := wire.Split(wire.AppendRelay(nil, []uint64{1}, []byte("foobar")))
	relay, err := wire.ParseRelay(payload)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(relay.To, "XXXXXXXX"...)
	if string(relay.Body) != "foobar" {
		t.Errorf("after an append to To the body is %q", relay.Body)
	}
}

// TestPutRelayDeliveryHeader_MatchesAppend checks that PutRelayDeliveryHeader writes the
// header that AppendRelayDelivery appends.
func TestPutRelayDeliveryHeader_MatchesAppend(t *testing.T) {
	for _, size := range []int{0, 1, 255, 256, 65535, wire.DefaultMaxBody} {
		body := bytes.Repeat([]byte{9}, size)
		frame := append(make([]byte, wire.HeaderSize), body...)
		wire.PutRelayDeliveryHeader(frame, size)
		if !bytes.Equal(frame, wire.AppendRelayDelivery(nil, body)) {
			t.Errorf("body of %d bytes: header %x", size, frame[:wire.HeaderSize])
		}
	}
}

func FuzzRelay(f *testing.F) {
	seedPayloads(f)
	f.Add([]byte{255})
	f.Fuzz(func(t *testing.T, payload []byte) {
		// The rebuilt frame, which append can grow by half, and the ids as numbers.
		wantMaxAlloc(t, 3*len(payload), func() { checkRelay(t, payload) })
	})
}

// checkRelay parses a payload, checks the views, and rebuilds the payload.
func checkRelay(t *testing.T, payload []byte) {
	relay, err := wire.ParseRelay(payload)
	if err != nil {
		if !errors.Is(err, wire.ErrMalformed) {
			t.Fatalf("%x: %v", payload, err)
		}
		if len(payload) > 0 && len(payload) >= 1+int(payload[0])*wire.IDSize {
			t.Fatalf("%x is a valid relay: %v", payload, err)
		}
		return
	}
	end := 1 + int(payload[0])*wire.IDSize
	checkView(t, "receivers", relay.To, payload[1:end])
	checkView(t, "bytes of the body", relay.Body, payload[end:])
	encoded := wire.AppendRelay(nil, relay.To.AppendTo(nil), relay.Body)
	if !bytes.Equal(encoded[wire.HeaderSize:], payload) {
		t.Fatalf("%x is rebuilt as %x", payload, encoded)
	}
	if len(encoded) != wire.RelayLen(relay.To.Len(), len(relay.Body)) {
		t.Fatalf("%d bytes, RelayLen returns %d", len(encoded), wire.RelayLen(relay.To.Len(), len(relay.Body)))
	}
}

func BenchmarkParseRelay(b *testing.B) {
	_, payload := wire.Split(wire.AppendRelay(nil, make([]uint64, 99), make([]byte, 10240)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = wire.ParseRelay(payload)
	}
}

func BenchmarkAppendRelayHeader(b *testing.B) {
	to := make([]uint64, 99)
	buffer := make([]byte, 0, wire.RelayLen(len(to), 0))
	b.ReportAllocs()
	for b.Loop() {
		wire.AppendRelayHeader(buffer, to, 10240)
	}
}

func BenchmarkPutDeliveryHeader(b *testing.B) {
	frame := make([]byte, wire.HeaderSize)
	b.ReportAllocs()
	for b.Loop() {
		wire.PutRelayDeliveryHeader(frame, 10240)
	}
}
