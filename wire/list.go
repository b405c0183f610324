package wire

import "fmt"

// ListRequestLen is the size of a list request on the wire, in bytes.
const ListRequestLen = HeaderSize

// ListLen returns the size of a list of n ids on the wire, in bytes.
func ListLen(n int) int { return HeaderSize + n*IDSize }

// AppendListRequest appends the question "who else is connected?". The hub
// ignores whatever payload it carries, so it has no Parse.
func AppendListRequest(b []byte) []byte { return appendHeader(b, TypeList, 0) }

// AppendList appends the hub's answer to a list request: the ids in a row, in
// the order of before and after, which lets a hub leave out the one who asked
// without a copy. Both together must be ascending.
func AppendList(b []byte, before, after []uint64) []byte {
	b = appendHeader(b, TypeList, (len(before)+len(after))*IDSize)
	return appendIDs(appendIDs(b, before), after)
}

// ParseList reads the payload of the hub's answer; how many ids there are
// follows from its length. It returns an error that wraps ErrMalformed unless
// that is a multiple of 8 bytes.
func ParseList(payload []byte) (IDs, error) {
	if len(payload)%IDSize != 0 {
		return nil, fmt.Errorf("%w: list of %d bytes, not a multiple of %d", ErrMalformed, len(payload), IDSize)
	}
	return IDs(payload), nil
}
