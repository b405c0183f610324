package wire

import (
	"encoding/binary"
	"fmt"
)

// Sizes of the identity frames on the wire, in bytes.
const (
	IdentityRequestLen = HeaderSize
	IdentityLen        = HeaderSize + IDSize
)

// AppendIdentityRequest appends the question "what is my id?". The hub ignores
// whatever payload it carries, so it has no Parse.
func AppendIdentityRequest(b []byte) []byte { return appendHeader(b, TypeIdentity, 0) }

// AppendIdentity appends the hub's answer to an identity request.
func AppendIdentity(b []byte, id uint64) []byte {
	b = appendHeader(b, TypeIdentity, IDSize)
	return binary.BigEndian.AppendUint64(b, id)
}

// ParseIdentity reads the payload of the hub's answer. It returns an error that
// wraps ErrMalformed unless there are exactly 8 bytes.
func ParseIdentity(payload []byte) (uint64, error) {
	if len(payload) != IDSize {
		return 0, fmt.Errorf("%w: identity of %d bytes, want %d", ErrMalformed, len(payload), IDSize)
	}
	return binary.BigEndian.Uint64(payload), nil
}
