package cluster

import "testing"

func TestNodeOf(t *testing.T) {
	for _, node := range []Node{1, 2, MaxNode} {
		for _, id := range []uint64{FirstID(node), FirstIDOfUpperHalf(node), FirstID(node) + 1<<counterBits - 2} {
			if got, ok := NodeOf(id); got != node || !ok {
				t.Errorf("NodeOf(%#x) = %d, %v, want %d", id, got, ok, node)
			}
		}
	}
	for _, id := range []uint64{0, 1, 1<<63 - 1, 1 << 63, 1<<63 | 5} {
		if node, ok := NodeOf(id); ok {
			t.Errorf("NodeOf(%#x) = %d, although no hub has assigned it", id, node)
		}
	}
}
