package relay

import "github.com/sechlol/go-message-hub/wire"

// indexSet is a set of receivers of a message, by index.
type indexSet [(wire.MaxReceivers + 63) / 64]uint64

func (s *indexSet) set(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *indexSet) has(i int) bool { return s[i/64]>>(i%64)&1 == 1 }
