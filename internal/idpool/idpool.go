// Package idpool assigns client ids. A pool never returns the same id twice. The package does
// not know which client has which id; that is the job of package presence.
package idpool

import "sync"

// Pool counts ids up from 1. The zero value is ready for use. All methods can be called
// concurrently.
//
// A pool never reuses an id, and a message to a disconnected client therefore cannot reach
// another client. At a million ids per second the 64 bits last for 580,000 years.
type Pool struct {
	mu       sync.Mutex
	last     uint64
	reserved map[uint64]struct{} // ids that Next omits; nil: none
}

// StartAt sets the first id, which is 1 otherwise. It must be called before Next.
func (p *Pool) StartAt(first uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = first - 1
}

// Next returns the next id that is not reserved. The first id is 1, or the argument of StartAt.
func (p *Pool) Next() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		p.last++
		if _, reserved := p.reserved[p.last]; !reserved {
			return p.last
		}
	}
}

// Reserve makes Next omit id for ever. It returns false if Next has returned id.
func (p *Pool) Reserve(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, reserved := p.reserved[id]; reserved {
		return true
	}
	if id <= p.last {
		return false
	}
	if p.reserved == nil {
		p.reserved = make(map[uint64]struct{})
	}
	p.reserved[id] = struct{}{}
	return true
}
