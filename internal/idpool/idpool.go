// Package idpool assigns client ids. A pool never returns the same id twice. The package does
// not know which client has which id; that is the job of package presence.
package idpool

import "sync/atomic"

// Pool counts ids up from 1. The zero value is ready for use, and Next can be called
// concurrently.
//
// A pool never reuses an id, and a message to a disconnected client therefore cannot reach
// another client. At a million ids per second the 64 bits last for 580,000 years.
type Pool struct {
	last atomic.Uint64
}

// StartAt sets the first id, which is 1 otherwise. It must be called before Next.
func (p *Pool) StartAt(first uint64) { p.last.Store(first - 1) }

// Next returns the next id. The first id is 1, or the argument of StartAt.
func (p *Pool) Next() uint64 { return p.last.Add(1) }
