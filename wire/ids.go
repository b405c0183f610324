package wire

import (
	"encoding/binary"
	"iter"
)

// IDs is a list of client ids in wire format, 8 bytes each. It is a view of the payload that
// it was parsed from, and valid as long as that payload.
type IDs []byte

// Len returns the number of ids.
func (ids IDs) Len() int { return len(ids) / IDSize }

// At returns the id at index i, from 0 to Len()-1.
func (ids IDs) At(i int) uint64 { return binary.BigEndian.Uint64(ids[i*IDSize:]) }

// All yields the ids in wire order.
func (ids IDs) All() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for i := range ids.Len() {
			if !yield(ids.At(i)) {
				return
			}
		}
	}
}

// AppendTo appends the ids to dst and returns the extended slice.
func (ids IDs) AppendTo(dst []uint64) []uint64 {
	for id := range ids.All() {
		dst = append(dst, id)
	}
	return dst
}

// AppendIDs appends ids in wire format: an IDs with these ids.
func AppendIDs(b []byte, ids []uint64) []byte {
	for _, id := range ids {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	return b
}
