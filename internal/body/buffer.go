// Package body provides the memory that message bodies are held in: reference-counted buffers
// from pools of size classes, and budgets that limit the total size of these buffers.
//
// On the path of a message, the package stands between the socket that reads a body and the
// outboxes that write it. The body is read once into one Buffer, and the queue of each
// receiver holds a reference to this Buffer. The package knows nothing about frames or
// connections.
package body

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Size classes. Each doubling has four classes, which makes a buffer at most a quarter larger
// than requested. A buffer above the largest class has exactly the requested size; the garbage
// collector frees it, and no pool keeps it.
const (
	minClassShift = 9  // 512 B
	maxClassShift = 21 // 2 MiB, above the largest frame of the default limits
	stepShift     = 2  // 1<<stepShift classes per doubling
	numClasses    = (maxClassShift-minClassShift)<<stepShift + 1
)

// unpooled is the class of a buffer that is larger than the largest class.
const unpooled = -1

var pools [numClasses]sync.Pool // of *Buffer

// Buffer is a reference-counted byte slice.
//
// The caller that gets a Buffer holds one reference and can write to it. Retain adds a
// reference for another holder. From then on, the bytes that were passed on with that
// reference must not change. Each holder calls Release once, and the last Release frees the
// memory. Retain and Release can be called concurrently.
type Buffer struct {
	bytes    []byte // the whole capacity of the class
	class    int
	account  *Account // charged for the buffer; nil: no account is
	overhead bool     // see Account
	refs     atomic.Int32
}

// Get returns a buffer of at least n bytes that is not charged to an account. The contents are
// undefined: a reused buffer keeps the bytes of its last user.
func Get(n int) *Buffer {
	class := classOf(n)
	if class == unpooled {
		return newBuffer(n, unpooled)
	}
	b, _ := pools[class].Get().(*Buffer)
	if b == nil {
		return newBuffer(classSize(class), class)
	}
	b.refs.Store(1)
	return b
}

func newBuffer(size, class int) *Buffer {
	b := &Buffer{bytes: make([]byte, size), class: class}
	b.refs.Store(1)
	return b
}

// Bytes returns the whole memory of the buffer, which has at least the requested length.
func (b *Buffer) Bytes() []byte { return b.bytes }

// Account returns the account that is charged for the buffer, or nil.
func (b *Buffer) Account() *Account { return b.account }

// Retain adds a reference. The caller must hold one.
func (b *Buffer) Retain() { b.refs.Add(1) }

// Shared reports whether the buffer has more than one reference.
func (b *Buffer) Shared() bool { return b.refs.Load() > 1 }

// Release gives up one reference. The caller must not use the bytes afterwards: after the last
// Release, the memory can belong to another holder.
func (b *Buffer) Release() {
	switch refs := b.refs.Add(-1); {
	case refs > 0:
		return
	case refs < 0:
		panic("body: buffer released more often than retained")
	}
	if b.account != nil {
		b.account.release(len(b.bytes), b.overhead)
		b.account, b.overhead = nil, false
	}
	if b.class != unpooled {
		pools[b.class].Put(b)
	}
}

// Capacity returns the size of a buffer for n bytes, which is also the number of bytes charged
// for it.
func Capacity(n int) int {
	if class := classOf(n); class != unpooled {
		return classSize(class)
	}
	return n
}

// classOf returns the smallest class that holds n bytes.
func classOf(n int) int {
	if n <= 1<<minClassShift {
		return 0
	}
	if n > 1<<maxClassShift {
		return unpooled
	}
	// n-1 = 1.mm… × 2^shift: the two bits behind the leading bit are the step.
	shift := bits.Len(uint(n-1)) - 1
	step := (n - 1) >> (shift - stepShift) & (1<<stepShift - 1)
	return (shift-minClassShift)<<stepShift + step + 1
}

// classSize returns the size of the buffers of a class, in bytes.
func classSize(class int) int {
	shift, step := class>>stepShift, class&(1<<stepShift-1)
	return (1<<stepShift + step) << (minClassShift - stepShift + shift)
}
