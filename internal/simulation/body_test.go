package simulation

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// BenchmarkPattern_Fill measures how a sender builds a body.
func BenchmarkPattern_Fill(b *testing.B) {
	for _, size := range []int{128, 10240} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			pattern := newPattern(size)
			body := make([]byte, size)
			number := uint32(0)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				pattern.fill(body, newHeader(1, number, time.Duration(number)))
				number++
			}
		})
	}
}

func TestHeader_RoundTrip(t *testing.T) {
	body := make([]byte, headerSize)
	h := newHeader(254, 1<<32-1, 3*time.Second)
	h.put(body)
	if got := parseHeader(body); got != h {
		t.Errorf("%+v, want %+v", got, h)
	}
	if h.sender() != 254 || h.number() != 1<<32-1 || h.intended != uint64(3*time.Second) {
		t.Errorf("sender %d, number %d, intended %d", h.sender(), h.number(), h.intended)
	}
}

// TestPattern_TailDependsOnHeader fills bodies of consecutive messages, whose tails must differ.
func TestPattern_TailDependsOnHeader(t *testing.T) {
	p := newPattern(200)
	first, second := make([]byte, 200), make([]byte, 200)
	h := newHeader(1, 7, time.Second)
	p.fill(first, h)
	p.fill(second, newHeader(1, 8, time.Second))
	if bytes.Equal(first[headerSize:], second[headerSize:]) {
		t.Error("two messages have the same tail")
	}
	if !p.matches(first, h) || p.matches(second, h) {
		t.Errorf("the own body matches: %v, that of another message: %v", p.matches(first, h), p.matches(second, h))
	}
}

func TestPattern_SmallBodyIsUnchanged(t *testing.T) {
	body := []byte("unchanged")
	newPattern(len(body)).fill(body, newHeader(1, 2, 3))
	if string(body) != "unchanged" {
		t.Errorf("%q", body)
	}
}
