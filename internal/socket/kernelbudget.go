package socket

import "sync/atomic"

// KernelBudget limits the bytes of large frames that the kernel is asked to hold, for all
// connections that share the budget. Bytes that arrive before the Reader knows that a frame is
// large do not count. Its methods can be called concurrently.
type KernelBudget struct {
	max  int64 // static after construction
	used atomic.Int64
}

// NewKernelBudget returns a budget of the given number of bytes.
func NewKernelBudget(bytes int64) *KernelBudget { return &KernelBudget{max: bytes} }

// DefaultKernelBudget returns a budget of three quarters of the memory that the kernel holds
// for all TCP connections of the machine before it begins to save memory (the first number of
// tcp_mem), or of 64 MiB where the kernel does not publish this number. The budget is at most
// a quarter of the memory limit of the control group of the process.
func DefaultKernelBudget() *KernelBudget { return NewKernelBudget(kernelMemory()) }

func (b *KernelBudget) tryAcquire(n int) bool {
	if b.used.Add(int64(n)) <= b.max {
		return true
	}
	b.used.Add(-int64(n))
	return false
}

func (b *KernelBudget) release(n int) { b.used.Add(-int64(n)) }
