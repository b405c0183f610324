package main

import (
	"math/rand/v2"
	"testing"
)

// TestDecodeBody_EachByteCounts checks that a body with one other byte, or cut off, is corrupt.
func TestDecodeBody_EachByteCounts(t *testing.T) {
	for _, size := range []int{0, bodyHeader, 200} {
		body := newBody(rand.New(rand.NewPCG(1, 2)), 3, 4, size)
		if sender, number, err := decodeBody(body); sender != 3 || number != 4 || err != nil {
			t.Errorf("%d bytes: %d, %d, %v", size, sender, number, err)
		}
		for i := range body {
			body[i]++
			if _, _, err := decodeBody(body); err == nil {
				t.Errorf("%d bytes, another byte %d: no error", size, i)
			}
			body[i]--
			if _, _, err := decodeBody(body[:i]); err == nil {
				t.Errorf("%d of %d bytes: no error", i, size)
			}
		}
	}
}
