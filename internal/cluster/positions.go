package cluster

import (
	"math/bits"

	"github.com/sechlol/go-message-hub/wire"
)

// positions is a set of receivers of one batch, by their position in Transfer.Receivers.
type positions [wire.MaxReceivers/64 + 1]uint64

func (p *positions) set(i int)      { p[i/64] |= 1 << (i % 64) }
func (p *positions) clear(i int)    { p[i/64] &^= 1 << (i % 64) }
func (p *positions) has(i int) bool { return p[i/64]&(1<<(i%64)) != 0 }

func (p *positions) len() (n int) {
	for _, word := range p {
		n += bits.OnesCount64(word)
	}
	return n
}

// all calls f with each position, in ascending order.
func (p *positions) all(f func(i int)) {
	for w, word := range p {
		for ; word != 0; word &= word - 1 {
			f(w*64 + bits.TrailingZeros64(word))
		}
	}
}

// firstPositions returns the positions below n.
func firstPositions(n int) (p positions) {
	for i := range n {
		p.set(i)
	}
	return p
}
