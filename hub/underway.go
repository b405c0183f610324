package hub

import "sync/atomic"

// transferCost is what a batch counts in underWay beside its bytes and relay.ReceiverCost for each
// of its receivers: about the memory of its state for one receiver.
const transferCost = 512

// underWay counts the cost of what a client of version 1 has under way to other hubs: batches that
// were sent and that these hubs have not queued yet. A client of version 2 has its credit for this.
type underWay struct {
	bytes  atomic.Int64
	signal atomic.Pointer[chan struct{}] // capacity 1: some were queued; nil: nobody waits
}

// add counts n bytes more.
func (u *underWay) add(n int) { u.bytes.Add(int64(n)) }

// release counts n bytes less. It can be called concurrently.
func (u *underWay) release(n int) {
	u.bytes.Add(int64(-n))
	if signal := u.signal.Load(); signal != nil {
		select {
		case *signal <- struct{}{}:
		default:
		}
	}
}

// isBelow reports whether fewer than limit bytes are under way. u can be nil.
func (u *underWay) isBelow(limit int) bool { return u == nil || u.bytes.Load() < int64(limit) }

// wait waits until fewer than limit bytes are under way. It returns false if stop is closed before.
// One goroutine can wait at a time.
func (u *underWay) wait(limit int, stop <-chan struct{}) bool {
	signal := make(chan struct{}, 1)
	u.signal.Store(&signal) // before the bytes are read: what is released afterwards signals
	defer u.signal.Store(nil)
	for !u.isBelow(limit) {
		select {
		case <-signal:
		case <-stop:
			return false
		}
	}
	return true
}
