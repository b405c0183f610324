package hub

import (
	"testing"
	"unsafe"

	"github.com/sechlol/go-message-hub/internal/admission"
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
)

// TestConn_StructSizes_FitSizeClasses compares the structs that each connection needs with the
// size classes of Go's allocator: one more field can cost 16 or 32 bytes.
func TestConn_StructSizes_FitSizeClasses(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("pointers do not have 8 bytes")
	}
	for _, test := range []struct {
		name      string
		size, max uintptr
	}{
		{"conn", unsafe.Sizeof(conn{}), 192},
		{"socket.Conn", unsafe.Sizeof(socket.Conn{}), 224},
		{"body.Account", unsafe.Sizeof(body.Account{}), 64},
		{"session", unsafe.Sizeof(session{}), 320},
		{"connV2", unsafe.Sizeof(connV2{}), 112},
		{"admission.RateLimiter", unsafe.Sizeof(admission.RateLimiter{}), 80},
	} {
		if test.size > test.max {
			t.Errorf("%s has %d bytes, want at most %d", test.name, test.size, test.max)
		}
	}
	if offset := unsafe.Offsetof(socket.Conn{}.Outbox); offset%32 != 0 {
		t.Errorf("the Outbox starts at byte %d of a socket.Conn, want a multiple of 32: docs/decisions/0019", offset)
	}
}
