package socket

import (
	"github.com/sechlol/go-message-hub/internal/body"
)

// pieces cuts a vector into the parts that a transport writes one by one.
type pieces struct {
	v         [][]byte
	skip      int          // bytes of v[0] that were returned already
	coalesced *body.Buffer // for several slices that are copied together
}

func (s *pieces) empty() bool { return len(s.v) == 0 }

// next returns the next piece: at most maxBytes of one slice, or several small slices copied
// together into one TLS record.
func (s *pieces) next(maxBytes int) []byte {
	p := s.v[0][s.skip:]
	if len(p) > maxBytes {
		s.skip += maxBytes
		return p[:maxBytes]
	}
	n, size := 1, len(p)
	for len(p) <= maxRecordSize/2 && n < len(s.v) && size+len(s.v[n]) <= maxRecordSize {
		size += len(s.v[n])
		n++
	}
	if n > 1 {
		if s.coalesced == nil {
			s.coalesced = body.Get(maxRecordSize)
		}
		p = append(s.coalesced.Bytes()[:0], p...)
		for _, slice := range s.v[1:n] {
			p = append(p, slice...)
		}
	}
	s.v, s.skip = s.v[n:], 0
	return p
}

// release releases the memory of the last piece.
func (s *pieces) release() {
	if s.coalesced != nil {
		s.coalesced.Release()
		s.coalesced = nil
	}
}
