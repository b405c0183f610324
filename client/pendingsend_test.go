package client

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// newPendingSend returns a message of one byte to the clients to.
func newPendingSend(seq uint64, to ...uint64) pendingSend {
	p := pendingSend{seq: seq, receivers: uint8(len(to)), length: wire.SendLen(len(to), 1)}
	p.buffer = body.Get(p.length)
	wire.AppendSend(p.buffer.Bytes()[:0], seq, wire.MakeOptions(wire.LevelNone, wire.OverflowBlock), 0, to, []byte("x"))
	return p
}

func TestPendingSend_NamesAssigned(t *testing.T) {
	for name, test := range map[string]struct {
		to                 []uint64
		all, unlessGranted bool
	}{
		"no receiver":  {},
		"granted":      {[]uint64{wire.MaxGrantedID}, true, false},
		"assigned":     {[]uint64{wire.MaxGrantedID + 1}, true, true},
		"one of three": {[]uint64{1, 2, wire.MaxGrantedID + 1}, true, true},
	} {
		p := newPendingSend(1, test.to...)
		if all, unlessGranted := p.namesAssigned(false), p.namesAssigned(true); all != test.all || unlessGranted != test.unlessGranted {
			t.Errorf("%s: %v, and %v if ids are granted; want %v, %v", name, all, unlessGranted, test.all, test.unlessGranted)
		}
		p.buffer.Release()
	}
}

func TestPendingSend_HasExpired(t *testing.T) {
	for left, want := range map[time.Duration]bool{-time.Second: true, time.Hour: false} {
		p := pendingSend{sockOptions: &outbox.Options{Expires: time.Now().Add(left).UnixNano()}}
		if got := p.hasExpired(); got != want {
			t.Errorf("%v before the expiry: %v, want %v", left, got, want)
		}
	}
	if new(pendingSend).hasExpired() {
		t.Error("a message without a TTL has expired")
	}
}

// TestPendingSends_Model compares pendingSends with two slices: of the messages in flight and of
// the unsent ones.
func TestPendingSends_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s pendingSends
		var inFlight, unsent []uint64
		seq := uint64(0)
		cost := func(seq uint64) int { return int(seq%7) + 1 }
		t.Repeat(map[string]func(*rapid.T){
			"add": func(*rapid.T) {
				seq++
				s.add(pendingSend{seq: seq, cost: cost(seq)})
				unsent = append(unsent, seq)
			},
			"send": func(t *rapid.T) {
				p := s.firstUnsent()
				if p == nil {
					t.Skip("all are in flight")
				}
				s.next++
				inFlight, unsent = append(inFlight, p.seq), unsent[1:]
			},
			"acknowledge": func(t *rapid.T) {
				n := rapid.IntRange(0, len(inFlight)).Draw(t, "n")
				s.remove(0, n)
				inFlight = inFlight[n:]
			},
			"remove one": func(t *rapid.T) {
				all := slices.Concat(inFlight, unsent)
				if len(all) == 0 {
					t.Skip("there is none")
				}
				i, found := s.find(rapid.SampledFrom(all).Draw(t, "seq"))
				if !found {
					t.Fatal("not found")
				}
				s.remove(i, i+1)
				if i < len(inFlight) {
					inFlight = slices.Delete(slices.Clone(inFlight), i, i+1)
				} else {
					i -= len(inFlight)
					unsent = slices.Delete(slices.Clone(unsent), i, i+1)
				}
			},
			"": func(t *rapid.T) {
				seqs, total := []uint64{}, 0
				for _, p := range s.all {
					seqs, total = append(seqs, p.seq), total+p.cost
				}
				if !slices.Equal(seqs, slices.Concat(inFlight, unsent)) || s.next != len(inFlight) || s.cost != total {
					t.Fatalf("%v, %d in flight, cost %d; want %v and %v, cost %d", seqs, s.next, s.cost, inFlight, unsent, total)
				}
				if _, found := s.find(seq + 1); found {
					t.Fatal("found a message that is not there")
				}
			},
		})
	})
}

func TestPendingSends_RecomputeCosts(t *testing.T) {
	var s pendingSends
	for seq := range uint64(3) {
		s.add(pendingSend{seq: seq, length: 10, receivers: uint8(seq)})
	}
	s.next = 2
	if inFlight := s.recomputeCosts(&sendLimits{receiverCost: 5}); inFlight != 25 || s.cost != 45 {
		t.Errorf("the cost is %d, and %d in flight; want 45 and 25", s.cost, inFlight)
	}
	s.next = 0
	s.removeIf(func(p *pendingSend) bool { return p.seq == 1 })
	if len(s.all) != 2 || s.cost != 30 {
		t.Errorf("%d messages cost %d, want 2 and 30", len(s.all), s.cost)
	}
}
