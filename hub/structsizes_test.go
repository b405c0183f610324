package hub

import (
	"testing"
	"unsafe"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
)

// TestConn_StructSizes_FitSizeClasses holds what each connection has to the size classes of Go's allocator: one field more
// may cost 16 bytes, or 32.
func TestConn_StructSizes_FitSizeClasses(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("pointers have another size here")
	}
	for _, test := range []struct {
		name      string
		size, max uintptr
	}{
		{"conn", unsafe.Sizeof(conn{}), 192},
		{"socket.Conn", unsafe.Sizeof(socket.Conn{}), 288},
		{"body.Account", unsafe.Sizeof(body.Account{}), 64},
		{"session", unsafe.Sizeof(session{}), 320},
		{"connV2", unsafe.Sizeof(connV2{}), 112},
	} {
		if test.size > test.max {
			t.Errorf("%s has %d bytes, at most %d expected", test.name, test.size, test.max)
		}
	}
}
