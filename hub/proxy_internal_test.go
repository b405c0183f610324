package hub

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// TestBeganWithProxyHeader checks the errors that a PROXY header leads to, with and without TLS,
// and other errors.
func TestBeganWithProxyHeader(t *testing.T) {
	length := func(start string) error {
		return fmt.Errorf("read: %w", &wire.LengthError{Length: binary.BigEndian.Uint32([]byte(start))})
	}
	record := func(start string) error {
		return fmt.Errorf("handshake: %w", tls.RecordHeaderError{RecordHeader: [5]byte([]byte(start))})
	}
	for _, test := range []struct {
		err   error
		first bool
		want  bool
	}{
		{length("PROX"), true, true},
		{length("PROX"), false, false},
		{length("\r\n\r\n"), true, true},
		{length("GET "), true, false},
		{record("PROXY"), true, true},
		{record("GET /"), true, false},
		{errors.New("PROXY"), true, false},
		{nil, true, false},
	} {
		if got := beganWithProxyHeader(test.err, test.first); got != test.want {
			t.Errorf("%v, first %v: %v", test.err, test.first, got)
		}
	}
}
