package main

import "encoding/binary"

// headerSize is the length of the header of each body, in bytes: the index of the sender and
// the number of the message among those of that sender, u64 each.
const headerSize = 16

// putHeader writes the header of message k of sender s.
func putHeader(body []byte, s, k int) {
	binary.BigEndian.PutUint64(body, uint64(s))
	binary.BigEndian.PutUint64(body[8:], uint64(k))
}
