package tokens

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// parseSendList returns claims with list as hub_send.
func parseSendList(t testing.TB, list ...string) *Claims {
	t.Helper()
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	var c Claims
	if err := parseRanges(&c, text); err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestParseRanges_Merges(t *testing.T) {
	const end = math.MaxUint64
	top := fmt.Sprint(uint64(end))
	for list, want := range map[string][]Range{
		"":                     {},
		"7":                    {{7, 7}},
		"9 2 5":                {{2, 2}, {5, 5}, {9, 9}},
		"3 1 2":                {{1, 3}},
		"5-10 2-3 4":           {{2, 10}},
		"1-100 5-6 50 90-120":  {{1, 120}},
		"5 5 5-5":              {{5, 5}},
		"0 1":                  {{0, 1}},
		"0-" + top + " " + top: {{0, end}},
		top + " 0":             {{0, 0}, {end, end}},
		"1-3 5-7 9-11 4":       {{1, 7}, {9, 11}},
	} {
		got := parseSendList(t, strings.Fields(list)...).To
		if !slices.Equal(got, want) || got == nil || cap(got) != len(got) {
			t.Errorf("%q: ranges %v with capacity %d, want %v", list, got, cap(got), want)
		}
	}
}

// TestClaims_CanSend_MatchesLinearScan compares the binary search of CanSend with a linear scan.
func TestClaims_CanSend_MatchesLinearScan(t *testing.T) {
	for range 200 {
		var list []string
		var ranges []Range
		for range rand.IntN(20) {
			first := rand.Uint64N(100)
			r := Range{first, first + rand.Uint64N(10)}
			ranges = append(ranges, r)
			list = append(list, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
		c := parseSendList(t, list...)
		for id := range uint64(120) {
			want := slices.ContainsFunc(ranges, func(r Range) bool { return r.First <= id && id <= r.Last })
			if got := c.CanSend(id); got != want {
				t.Fatalf("%v: CanSend(%d) = %t, want %t", list, id, got, want)
			}
		}
	}
}

// BenchmarkClaims_CanSend checks the 255 receivers of a message against 100,000 ranges of one id
// each.
func BenchmarkClaims_CanSend(b *testing.B) {
	var list []string
	for i := range 100_000 {
		list = append(list, fmt.Sprint(2*i))
	}
	c := parseSendList(b, list...)
	if len(c.To) != len(list) {
		b.Fatalf("%d ranges", len(c.To))
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range uint64(255) {
			if !c.CanSend(199_998 - 2*i) {
				b.Fatal("CanSend = false")
			}
		}
	}
}
