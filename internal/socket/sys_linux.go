package socket

import (
	"io"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawSupported says that readRaw and writeRaw work here.
const rawSupported = true

// readRaw reads what is there without waiting. again says that nothing is.
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

// peekRaw reports whether there is something to read, without waiting. It returns
// io.EOF when there is nothing and will be nothing.
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

// unreadRaw returns how many bytes wait to be read.
func unreadRaw(fd uintptr) int {
	n, _ := unix.IoctlGetInt(int(fd), unix.SIOCINQ) // fails only on a closed connection
	return n
}

// sinceTCPAckRaw returns how long ago the peer's kernel has last acknowledged anything.
func sinceTCPAckRaw(fd uintptr) (ago time.Duration, known bool) {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, false // a closed connection
	}
	return time.Duration(info.Last_ack_recv) * time.Millisecond, true
}

// tcpEstablished is the state of a connection that neither side has ended: TCP_ESTABLISHED of
// linux/tcp_states.h.
const tcpEstablished = 1

// peerEndedRaw reports whether the peer has ended its side, be it with something before that is still to be
// read.
func peerEndedRaw(fd uintptr) bool {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	return err != nil || info.State != tcpEstablished
}

// setRcvLowatRaw has the socket be readable only when n bytes have come, or as many as
// the kernel holds for one who does not read, or the end.
func setRcvLowatRaw(fd uintptr, n int) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, n)
}

// setRcvLowatCappedRaw is setRcvLowatRaw for n bytes, or half of what the kernel can hold if that is less than
// n.
func setRcvLowatCappedRaw(fd uintptr, n int) error {
	if err := setRcvLowatRaw(fd, n); err != nil {
		return err
	}
	if maxBytes := rcvLowatRaw(fd); maxBytes < n {
		return setRcvLowatRaw(fd, maxBytes/2)
	}
	return nil
}

// rcvLowatRaw returns how many bytes were demanded, or the most that can be.
func rcvLowatRaw(fd uintptr) int {
	n, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT) // fails only on a closed connection
	return n
}

// kernelStateRaw returns what the kernel does with a frame of which it holds n bytes and not yet
// everything. It returns an error when nothing more will come; state means nothing then.
//
// It asks in this order: whether the socket is readable, whether the connection has ended, and how
// much there is. Bytes that came before the end are then seen by the last question, and bytes that
// came after the first one are not taken for a socket that is stuck. SO_ERROR is read last, for
// reading clears it.
func kernelStateRaw(fd uintptr, n int) (state int, err error) {
	readable, err := readableRaw(fd)
	if err != nil || !readable {
		return kernelAccepting, err
	}
	ended := peerEndedRaw(fd)
	switch {
	case unreadRaw(fd) != n: // more came, perhaps before the end
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

// readableRaw reports whether as much has come as was demanded, or the kernel takes no more, or
// nothing more will come.
func readableRaw(fd uintptr) (bool, error) {
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(ready, 0)
		if err != unix.EINTR {
			return n > 0, err
		}
	}
}

// pollRcvLowatRaw demands n bytes and reports whether it is readable, without waiting.
// Whoever then waits is woken when it is. It returns io.EOF like peekRaw.
func pollRcvLowatRaw(fd uintptr, n int) (ready bool, err error) {
	if err := setRcvLowatRaw(fd, n); err != nil {
		return false, err
	}
	if readable, err := readableRaw(fd); err != nil || !readable {
		return false, err
	}
	return peekRaw(fd)
}

// writableRaw reports whether there is room to write, or the connection has failed, without waiting.
func writableRaw(fd uintptr) bool {
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(ready, 0)
		if err != unix.EINTR {
			return n > 0 || err != nil
		}
	}
}

// vector is a list of memory areas as writev takes it. The pointers in it keep
// the memory alive.
type vector []syscall.Iovec

// add appends p, which must not be empty.
func (v vector) add(p []byte) vector {
	iov := syscall.Iovec{Base: &p[0]}
	iov.SetLen(len(p))
	return append(v, iov)
}

// size returns how many bytes the areas have together.
func (v vector) size() int {
	n := 0
	for i := range v {
		n += int(v[i].Len)
	}
	return n
}

// writeRaw writes as much as there is room for without waiting. again says that
// there is none.
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

// setSocketOptions bounds what the kernel takes over beyond what the peer's window lets it send
// (Config.MaxUnsentBytes), and has it give up a connection whose peer has taken nothing for so long
// although there was something to take (Config.UserTimeout). A kernel that cannot do so does
// without.
func setSocketOptions(raw syscall.RawConn, config *Config) {
	_ = raw.Control(func(fd uintptr) {
		if config.MaxUnsentBytes > 0 {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, config.MaxUnsentBytes)
		}
		if config.UserTimeout > 0 {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(config.UserTimeout.Milliseconds()))
		}
	})
}
