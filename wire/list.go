package wire

import "fmt"

// ListRequestLen is the size of a LIST request on the wire, in bytes.
const ListRequestLen = HeaderSize

// ListLen returns the size of a LIST answer with n ids on the wire, in bytes.
func ListLen(n int) int { return HeaderSize + n*IDSize }

// AppendListRequest appends a request for the ids of all other clients. The hub ignores the
// payload of such a request.
func AppendListRequest(b []byte) []byte { return appendHeader(b, TypeList, 0) }

// AppendList appends the answer of the hub to a LIST request: the ids in before, then those in
// after. The ids come in two slices, which lets the hub omit the client that asked without a
// copy. Both slices together must be ascending.
func AppendList(b []byte, before, after []uint64) []byte {
	b = appendHeader(b, TypeList, (len(before)+len(after))*IDSize)
	return AppendIDs(AppendIDs(b, before), after)
}

// ParseList reads the payload of the answer to a LIST request. The number of ids follows from
// the length of the payload. ParseList returns an error that wraps ErrMalformed unless that
// length is a multiple of 8 bytes.
func ParseList(payload []byte) (IDs, error) {
	if len(payload)%IDSize != 0 {
		return nil, fmt.Errorf("%w: list of %d bytes, not a multiple of %d", ErrMalformed, len(payload), IDSize)
	}
	return IDs(payload), nil
}
