package socket

import (
	"io"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readRaw reads available data without waiting. again says that there is none.
func readRaw(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(int(fd), p)
		switch err {
		case nil:
			return n, false, nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, true, nil
		default:
			return 0, false, err
		}
	}
}

// peekRaw reports whether data is available, without waiting. It returns io.EOF if there is
// none and the peer has ended its side.
func peekRaw(fd uintptr) (readable bool, err error) {
	for {
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return false, nil
		case err == nil && n == 0:
			return false, io.EOF
		default:
			return err == nil, err
		}
	}
}

// unreadRaw returns the number of unread bytes in the kernel.
func unreadRaw(fd uintptr) int {
	n, _ := unix.IoctlGetInt(int(fd), unix.SIOCINQ) // fails only on a closed connection
	return n
}

// sinceTCPAckRaw returns the time since the kernel of the peer last acknowledged any data.
func sinceTCPAckRaw(fd uintptr) (ago time.Duration, known bool) {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, false // the connection is closed
	}
	return time.Duration(info.Last_ack_recv) * time.Millisecond, true
}

// tcpEstablished is the state of a connection that neither side has ended: TCP_ESTABLISHED of
// linux/tcp_states.h.
const tcpEstablished = 1

// peerEndedRaw reports whether the peer has ended its side. Unread data can precede the end.
func peerEndedRaw(fd uintptr) bool {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	return err != nil || info.State != tcpEstablished
}

// setRcvLowatRaw makes the socket readable only when n bytes have arrived, when the receive
// buffer is full, or at the end of the stream (SO_RCVLOWAT).
func setRcvLowatRaw(fd uintptr, n int) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, n)
}

// setRcvLowatCappedRaw is setRcvLowatRaw for n bytes, or for half of the kernel's maximum if
// that is less than n.
func setRcvLowatCappedRaw(fd uintptr, n int) error {
	if err := setRcvLowatRaw(fd, n); err != nil {
		return err
	}
	if maxBytes := rcvLowatRaw(fd); maxBytes < n {
		return setRcvLowatRaw(fd, maxBytes/2)
	}
	return nil
}

// rcvLowatRaw returns the current value of SO_RCVLOWAT, which the kernel caps at its maximum.
func rcvLowatRaw(fd uintptr) int {
	n, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT) // fails only if closed
	return n
}

// States of a frame of which the kernel does not hold all bytes yet: see kernelStateRaw.
const (
	kernelAccepting  = iota // the kernel accepts more
	kernelProgressed        // the kernel has accepted more meanwhile
	kernelStuck             // the kernel accepts no more at the moment
	kernelFull              // the kernel holds as much as it ever will
)

// kernelStateRaw returns the state of a frame of which the kernel holds n bytes and not yet
// all. It returns an error if no more data will arrive; state is then undefined.
//
// It checks in this order: whether the socket is readable, whether the connection has ended,
// and how many bytes there are. Thus the last check sees the bytes that arrived before the
// end, and bytes that arrive after the first check do not make the socket look stuck. SO_ERROR
// is read last, because reading clears it.
func kernelStateRaw(fd uintptr, n int) (state int, err error) {
	readable, err := readableRaw(fd)
	if err != nil || !readable {
		return kernelAccepting, err
	}
	ended := peerEndedRaw(fd)
	switch {
	case unreadRaw(fd) != n: // more bytes arrived, perhaps before the end
		return kernelProgressed, nil
	case ended:
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			return 0, err
		case errno != 0:
			return 0, syscall.Errno(errno)
		}
		return 0, io.EOF
	case n >= rcvLowatRaw(fd):
		return kernelFull, nil
	}
	return kernelStuck, nil
}

// readableRaw reports whether the bytes of SO_RCVLOWAT have arrived, the receive buffer is
// full, or the stream has ended.
func readableRaw(fd uintptr) (bool, error) {
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(ready, 0)
		if err != unix.EINTR {
			return n > 0, err
		}
	}
}

// pollRcvLowatRaw sets SO_RCVLOWAT to n and reports whether the socket is readable, without
// waiting. A later wait on the socket ends when it is. It returns io.EOF like peekRaw.
func pollRcvLowatRaw(fd uintptr, n int) (ready bool, err error) {
	if err := setRcvLowatRaw(fd, n); err != nil {
		return false, err
	}
	if readable, err := readableRaw(fd); err != nil || !readable {
		return false, err
	}
	return peekRaw(fd)
}

// writableRaw reports whether there is room to write, or the connection has failed, without
// waiting.
func writableRaw(fd uintptr) bool {
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(ready, 0)
		if err != unix.EINTR {
			return n > 0 || err != nil
		}
	}
}

// vector is a list of memory areas for writev. The pointers in it keep the memory alive.
type vector []syscall.Iovec

// add appends p, which must not be empty.
func (v vector) add(p []byte) vector {
	iov := syscall.Iovec{Base: &p[0]}
	iov.SetLen(len(p))
	return append(v, iov)
}

// writeRaw writes as many bytes as there is room for, without waiting. again says that there
// is no room.
func writeRaw(fd uintptr, v vector) (n int, again bool, err error) {
	for {
		r, _, errno := syscall.Syscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&v[0])), uintptr(len(v)))
		switch errno {
		case 0:
			return int(r), false, nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, true, nil
		default:
			return 0, false, errno
		}
	}
}
