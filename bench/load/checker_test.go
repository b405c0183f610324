package main

import (
	"math"
	"testing"
)

const testBodySize = 32 // bytes

// checkNumbers returns a checker of client 0 after it has checked messages of sender 1 with
// the given numbers.
func checkNumbers(t *testing.T, fanout int, numbers []int) *checker {
	t.Helper()
	p, err := newPlan(3, 3, fanout, 100, testBodySize, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := newChecker(p, 0, false)
	for _, k := range numbers {
		c.check(testBody(1, k))
	}
	return c
}

func testBody(sender, number int) []byte {
	body := make([]byte, testBodySize)
	putHeader(body, sender, number)
	return body
}

func TestChecker_ToEveryone(t *testing.T) {
	for _, test := range []struct {
		what    string
		numbers []int
		got     uint64
		faults  uint64
	}{
		{"in order", []int{0, 1, 2, 3}, 4, 0},
		{"one lost", []int{0, 1, 3}, 3, 0},
		{"one twice", []int{0, 1, 1, 2}, 3, 1},
		{"two overtaken", []int{2, 0, 1, 3}, 2, 2},
		{"one that is never sent", []int{0, 100}, 1, 1},
	} {
		if c := checkNumbers(t, 0, test.numbers); c.received != test.got || c.faults != test.faults {
			t.Errorf("%s: %d and %d faults, want %d and %d", test.what, c.received, c.faults, test.got, test.faults)
		}
	}
}

// TestChecker_Scattered checks messages of which only some numbers are expected.
func TestChecker_Scattered(t *testing.T) {
	p, err := newPlan(3, 3, 1, 100, testBodySize, 1)
	if err != nil {
		t.Fatal(err)
	}
	var due []int
	for _, k := range p.due[0][1] {
		due = append(due, int(k))
	}
	foreign := 0 // a message to other clients
	for foreign == due[foreign] {
		foreign++
	}
	for _, test := range []struct {
		what    string
		numbers []int
		got     uint64
		faults  uint64
	}{
		{"in order", due[:5], 5, 0},
		{"one lost", []int{due[0], due[2]}, 2, 0},
		{"one twice", []int{due[0], due[0], due[1]}, 2, 1},
		{"one overtaken", []int{due[1], due[0], due[2]}, 2, 1},
		{"one for another client", []int{foreign, due[0]}, 1, 1},
		{"one that is never sent", []int{due[0], math.MaxInt >> 1}, 1, 1},
	} {
		if c := checkNumbers(t, 1, test.numbers); c.received != test.got || c.faults != test.faults {
			t.Errorf("%s: %d and %d faults, want %d and %d", test.what, c.received, c.faults, test.got, test.faults)
		}
	}
}

func TestChecker_CorruptedBody(t *testing.T) {
	for _, test := range []struct {
		what string
		body []byte
	}{
		{"too short", testBody(1, 0)[:testBodySize-1]},
		{"too long", append(testBody(1, 0), 0)},
		{"empty", nil},
		{"of an unknown sender", testBody(3, 0)},
		{"of oneself", testBody(0, 0)},
	} {
		c := checkNumbers(t, 0, nil)
		if c.check(test.body) || c.faults != 1 || c.received != 0 {
			t.Errorf("%s: %d due and %d faults, want a fault", test.what, c.received, c.faults)
		}
	}
}

// TestChecker_IgnoresEcho checks that a client's own messages do not count in a system that
// delivers them.
func TestChecker_IgnoresEcho(t *testing.T) {
	c := checkNumbers(t, 0, nil)
	c.echo = true
	if c.check(testBody(0, 0)) || c.faults != 0 || c.received != 0 {
		t.Errorf("%d due and %d faults of an own copy, want neither", c.received, c.faults)
	}
}
