// Package idpool hands out client ids. It does one thing: no id twice in the
// life of a pool. It does not know who got which; that is the roster's business.
package idpool

import "sync/atomic"

// Pool counts ids up from 1. The zero value is ready for use, and Next may be
// called concurrently.
//
// At a million clients a second the 64 bits last for 580,000 years, so ids are
// never given back: a message to one who left cannot reach a stranger.
type Pool struct {
	last atomic.Uint64
}

// StartAt has the ids begin there instead of at 1. It must be called before Next.
func (p *Pool) StartAt(first uint64) { p.last.Store(first - 1) }

// Next returns an id that the pool never returned before. The first is 1.
func (p *Pool) Next() uint64 { return p.last.Add(1) }
