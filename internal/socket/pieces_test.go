package socket

import (
	"bytes"
	"slices"
	"testing"
)

func TestPieces(t *testing.T) {
	v := [][]byte{}
	for i, size := range []int{10, 20, 20_000, 3000, maxRecordSize, 9000, 9000, 5} {
		v = append(v, bytes.Repeat([]byte{byte(i)}, size))
	}
	want := slices.Concat(v...)
	in := pieces{v: v}
	for _, size := range []int{30, maxRecordSize, 20_000 - maxRecordSize + 3000, maxRecordSize, 9000, 9000, 5} {
		p := in.next(maxRecordSize)
		if len(p) != size || !bytes.Equal(p, want[:len(p)]) {
			t.Fatalf("a piece of %d bytes, or with different contents; want %d bytes", len(p), size)
		}
		want = want[size:]
	}
	if !in.empty() {
		t.Error("bytes are left")
	}
	in.release()
}
