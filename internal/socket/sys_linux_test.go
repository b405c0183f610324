package socket

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// TestSys_StatesOfArrivedData compares what the kernel says about a connection without data,
// with data, and after its end.
func TestSys_StatesOfArrivedData(t *testing.T) {
	near, far := openTCP(t)
	raw := rawConn(near)
	for _, test := range []struct {
		name     string
		do       func()
		arrived  bool // data or the end
		unread   int
		readable bool
		err      error
		ended    bool
	}{
		{name: "no data", do: func() {}},
		{name: "data", do: func() { far.Write(make([]byte, 5)) }, arrived: true, unread: 5, readable: true},
		{name: "data and the end", do: func() { far.(*net.TCPConn).CloseWrite() }, arrived: true, unread: 5, readable: true, ended: true},
		{name: "the end", do: func() { io.ReadFull(near, make([]byte, 5)) }, arrived: true, err: io.EOF, ended: true},
	} {
		test.do()
		control := func(f func(fd uintptr)) {
			if err := raw.Control(f); err != nil {
				t.Fatal(err)
			}
		}
		waitUntil(t, test.name, func() (reached bool) {
			control(func(fd uintptr) {
				arrived, err := readableRaw(fd)
				reached = err == nil && arrived == test.arrived && peerEndedRaw(fd) == test.ended && unreadRaw(fd) == test.unread
			})
			return reached
		})
		control(func(fd uintptr) {
			if readable, err := peekRaw(fd); readable != test.readable || !errors.Is(err, test.err) {
				t.Errorf("%s: readable is %v, want %v: %v", test.name, readable, test.readable, err)
			}
		})
	}
}

func TestSys_WriteUntilFull(t *testing.T) {
	near, far := openTCP(t)
	raw := rawConn(near)
	written := 0
	if err := raw.Control(func(fd uintptr) {
		for again := false; !again; {
			var n int
			var err error
			if n, again, err = writeRaw(fd, vector{}.add(make([]byte, 10_000)).add(make([]byte, 1))); err != nil {
				t.Fatal(err)
			}
			written += n
		}
		if writableRaw(fd) {
			t.Error("the full socket is writable")
		}
	}); err != nil {
		t.Fatal(err)
	}
	far.SetReadDeadline(time.Now().Add(testTimeout))
	if _, err := io.ReadFull(far, make([]byte, written)); err != nil {
		t.Error(err)
	}
}
