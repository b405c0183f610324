package socket

import (
	"net"
	"time"
)

// transport carries the bytes of one connection. One goroutine reads, and another can write at
// the same time; the other methods can be called by any goroutine.
type transport interface {
	// Read waits until bytes have arrived and reads once, into memory of the Reader that the
	// transport was made for. If the transport can tell whether bytes have arrived, it borrows
	// the memory only then. Read returns errNoMemory if the Reader has no memory, and an
	// os.ErrDeadlineExceeded at the time set by Interrupt.
	Read() (n int, err error)

	// Write writes the bytes of v: as many as the connection accepts at once, which n counts. If
	// it accepts none, Write waits if wait is set, and otherwise returns 0. Without any byte in v,
	// Write waits until the connection accepts bytes.
	//
	// pending counts the bytes behind the first n that the transport holds in another form: they
	// must not be written again. Until pending is 0, the caller must call Write without a vector,
	// which writes them. After an error, the peer can have received pending bytes.
	Write(v [][]byte, wait bool) (n, pending int, err error)

	// MaxWrite returns the maximum number of bytes of a vector. 0: any number; Write then never
	// waits if wait is not set.
	MaxWrite() int

	// Interrupt makes each Read from the given time on fail, also a Read that waits, and leaves
	// the connection usable. The zero time means never.
	Interrupt(at time.Time)

	// Close closes the connection, or its write side.
	Close(how closeMode) error

	// Conn returns the connection of package net, for all that is not on the path of a message.
	Conn() net.Conn
}

// kernelView is what the local kernel knows about a connection. A transport implements it if
// the kernel can be asked.
type kernelView interface {
	// Unread returns the number of bytes that have arrived and were not read.
	Unread() int

	// SinceTCPAck returns the time since the kernel of the peer last acknowledged any data.
	SinceTCPAck() (ago time.Duration, known bool)

	// PeerEnded reports whether the peer has ended its side. Unread data can precede the end.
	PeerEnded() bool
}

// closeMode says what transport.Close does.
type closeMode uint8

const (
	closeNow       closeMode = iota // no notice to the peer of TLS
	closeReset                      // with a TCP reset: the kernel drops what it has not sent
	closeWriteSide                  // the peer can still send
)
