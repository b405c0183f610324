package wire

import (
	"encoding/binary"
	"fmt"
)

// Sizes of the IDENTITY frames on the wire, in bytes.
const (
	IdentityRequestLen = HeaderSize
	IdentityLen        = HeaderSize + IDSize
)

// AppendIdentityRequest appends a request for the id of the client. The hub ignores the
// payload of such a request.
func AppendIdentityRequest(b []byte) []byte { return appendHeader(b, TypeIdentity, 0) }

// AppendIdentity appends the answer of the hub to an IDENTITY request.
func AppendIdentity(b []byte, id uint64) []byte {
	b = appendHeader(b, TypeIdentity, IDSize)
	return binary.BigEndian.AppendUint64(b, id)
}

// ParseIdentity reads the payload of the answer to an IDENTITY request. It returns an error that
// wraps ErrMalformed unless the payload has exactly 8 bytes.
func ParseIdentity(payload []byte) (uint64, error) {
	if len(payload) != IDSize {
		return 0, fmt.Errorf("%w: identity of %d bytes, want %d", ErrMalformed, len(payload), IDSize)
	}
	return binary.BigEndian.Uint64(payload), nil
}
