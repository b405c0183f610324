// Package body holds the memory that bodies travel in: reference-counted
// buffers from pools of size classes, and the budgets that they are drawn from.
//
// On the way of a message it stands between the socket that reads a body and
// the outboxes that send it: the body is read once into one Buffer, and every
// receiver's queue holds a reference to it. It knows nothing of frames or
// connections.
package body

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Size classes: four to each doubling, so that a buffer is at most a quarter
// larger than what was asked for. Above the largest class a buffer has exactly
// the size asked for and goes back to the garbage collector, not to a pool.
const (
	minClassShift = 9  // 512 B
	maxClassShift = 21 // 2 MiB, above the largest frame of the default limits
	stepShift     = 2  // 1<<2 classes to each doubling
	numClasses    = (maxClassShift-minClassShift)<<stepShift + 1
)

// unpooled is the class of a buffer that is larger than the largest class.
const unpooled = -1

var pools [numClasses]sync.Pool // of *Buffer

// Buffer is a piece of memory with a count of those who hold it.
//
// Whoever draws a Buffer holds one reference and may write to it. Retain adds a
// reference for a further holder; from then on, the bytes that were handed over
// with it must not change. Each holder calls Release once, the last one gives
// the memory back. Retain and Release may be called concurrently.
type Buffer struct {
	bytes    []byte // the whole capacity of the class
	class    int
	account  *Account // who is charged for it; nil: nobody
	overhead bool     // see Account
	refs     atomic.Int32
}

// Get returns a buffer of at least n bytes that is charged to nobody. What it
// holds is whatever its last user left there.
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

// Bytes returns the whole memory of the buffer, at least as long as was asked.
func (b *Buffer) Bytes() []byte { return b.bytes }

// Account returns who is charged for the buffer, or nil.
func (b *Buffer) Account() *Account { return b.account }

// Retain adds a reference. The caller must hold one.
func (b *Buffer) Retain() { b.refs.Add(1) }

// Shared reports whether there is another reference than the caller's.
func (b *Buffer) Shared() bool { return b.refs.Load() > 1 }

// Release gives up one reference. After the last one the memory may belong to
// somebody else: a caller must not touch the bytes again.
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

// Capacity returns how many bytes a buffer for n bytes takes, which is what it
// is charged with.
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
	// n-1 = 1.mm… × 2^shift: the two bits behind the leading one are the step.
	shift := bits.Len(uint(n-1)) - 1
	step := (n - 1) >> (shift - stepShift) & (1<<stepShift - 1)
	return (shift-minClassShift)<<stepShift + step + 1
}

// classSize returns how many bytes the buffers of a class have.
func classSize(class int) int {
	shift, step := class>>stepShift, class&(1<<stepShift-1)
	return (1<<stepShift + step) << (minClassShift - stepShift + shift)
}
