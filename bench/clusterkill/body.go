package main

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
)

// bodyHeader is the length of the header of a body: sender, number and checksum of the rest.
const bodyHeader = 12

// newBody returns a body of size bytes.
func newBody(rng *rand.Rand, sender, number, size int) []byte {
	body := make([]byte, max(size, bodyHeader))
	binary.BigEndian.PutUint32(body, uint32(sender))
	binary.BigEndian.PutUint32(body[4:], uint32(number))
	for n := bodyHeader; n < len(body); n += 61 {
		body[n] = byte(rng.Uint32())
	}
	binary.BigEndian.PutUint32(body[8:], bodySum(body))
	return body
}

// bodySum returns the checksum of everything but itself.
func bodySum(body []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(body[:8]), crc32.IEEETable, body[bodyHeader:])
}

// decodeBody returns sender and number of a body.
func decodeBody(body []byte) (sender, number int, err error) {
	if len(body) < bodyHeader {
		return 0, 0, errors.New("it has no header")
	}
	if binary.BigEndian.Uint32(body[8:]) != bodySum(body) {
		return 0, 0, errors.New("it is corrupt")
	}
	return int(binary.BigEndian.Uint32(body)), int(binary.BigEndian.Uint32(body[4:])), nil
}
