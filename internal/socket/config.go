package socket

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
)

// Config holds the settings of a Conn. All fields must be set unless their comment says
// otherwise.
type Config struct {
	// MaxLength is the maximum value of the length field of a received frame, in bytes.
	MaxLength int

	// FrameTimeout limits the time in which the rest of an unfinished frame must arrive. The
	// limit starts again each time that the frame has progressed by 1 KiB per second of
	// FrameTimeout.
	FrameTimeout time.Duration

	// Outbox holds the settings of the outbox.
	Outbox outbox.Config

	// MaxUnsentBytes limits the bytes that the kernel accepts and cannot send yet, on Linux.
	// Bytes in the outbox are bounded and shared fairly between connections; bytes in the kernel
	// are neither. 0 leaves the limit to the kernel.
	MaxUnsentBytes int

	// UserTimeout is the time after which the kernel ends a connection whose peer accepts no
	// data, on Linux: the peer has vanished, or its receive window has been closed all the time.
	// 0 leaves the timeout to the kernel, which retransmits for about 15 minutes to a vanished
	// peer and probes a closed window for ever.
	UserTimeout time.Duration

	// ReadAccount is charged for the memory of reads in progress. While the account has no room,
	// reads are small, but they continue. nil: no account is charged.
	ReadAccount *body.Account

	// WriteAccount is charged for TLS records that are gathered to be written together. They
	// leave the account before the outbox waits for the peer: see Handler.Account. While the
	// account has no room, each record is written in its own system call. nil: no account is
	// charged.
	WriteAccount *body.Account

	// MinWhole is the size, in bytes, above which a frame stays in the kernel until all of it has
	// arrived, or until the kernel accepts no more, on Linux and without TLS. Until then the
	// frame needs no memory of Handler.Account. Many connections can thus be in the middle of a
	// large frame while few of them hold memory for it. At least 64 KiB; 0: each frame is read as
	// it arrives.
	MinWhole int

	// KernelBudget limits how many bytes of such frames the kernel is asked to hold. nil: no
	// limit.
	KernelBudget *KernelBudget

	// RetainsFrames says that the reading goroutine keeps frames beyond the next Fill, by
	// Frame.Buffer.Retain. The Reader then copies a small read to a small buffer, because a
	// retained frame keeps its whole buffer in memory.
	RetainsFrames bool

	// SparesStack says that the reading goroutine is often a new one, whose stack a wait for data
	// must not grow. The Reader then asks the kernel whether data has arrived before it tries to
	// read, on Linux, unless NotifyIdle is in effect.
	SparesStack bool
}
