package simulation

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// testSelf is the index of the client whose checker is under test, one of three clients.
// Clients 0 and 2 each send testMessages messages to it.
const testSelf, testMessages = 1, 4

func newTestChecker(size int, verify VerifyMode) *checker {
	plan := Config{Size: size, Clients: 3, Messages: testMessages}.Plan()
	return newChecker(plan, newPattern(size), verify, testSelf)
}

// testBody returns the body of a message of sender.
func testBody(c *checker, sender int, number uint32) []byte {
	body := make([]byte, c.pattern.size)
	c.pattern.fill(body, newHeader(sender, number, time.Duration(number)*time.Millisecond))
	return body
}

// feedAll passes all messages to c in order, through intercept. intercept gets the key
// "sender/number" and the body, and returns the bodies that arrive instead.
func feedAll(c *checker, intercept func(key string, body []byte) [][]byte) {
	for number := range uint32(testMessages) {
		for _, sender := range []int{0, 2} {
			key := fmt.Sprintf("%d/%d", sender, number)
			for _, body := range intercept(key, testBody(c, sender, number)) {
				c.check(body)
			}
		}
	}
}

// describeProblems returns the problems that c reports for a run that stalled after all
// messages were sent.
func describeProblems(c *checker) string {
	found := Problems{Totals: make(map[ProblemKind]uint64)}
	for _, p := range c.problems([]uint32{testMessages, testMessages, testMessages}, 8) {
		p.Client, p.ID, p.Got, p.Expected = testSelf, 77, c.received, 8
		found.add(p)
	}
	var lines []string
	for _, p := range found.Details {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

func flipBit(body []byte, index int) []byte {
	body[index] ^= 0x40
	return body
}

// delayBody returns an intercept function that holds back the body keep until the body release
// arrives.
func delayBody(keep, release string) func(string, []byte) [][]byte {
	var delayed []byte
	return func(key string, body []byte) [][]byte {
		switch key {
		case keep:
			delayed = body
			return nil
		case release:
			return [][]byte{body, delayed}
		}
		return [][]byte{body}
	}
}

// replaceBody returns an intercept function that replaces the body target.
func replaceBody(target string, replace func(body []byte) [][]byte) func(string, []byte) [][]byte {
	return func(key string, body []byte) [][]byte {
		if key == target {
			return replace(body)
		}
		return [][]byte{body}
	}
}

func TestChecker_ReportsFaults(t *testing.T) {
	lose := func([]byte) [][]byte { return nil }
	double := func(body []byte) [][]byte { return [][]byte{body, body} }
	tests := []struct {
		name   string
		change func(string, []byte) [][]byte
		want   string
		left   uint64
	}{
		{"nothing", delayBody("", ""), "", 0},
		{"lost in the middle", replaceBody("0/2", lose),
			"client 1 (id 77): 1 lost, got 7 of 8 deliveries: 1 from client 0 (numbers 2)", 1},
		{"lost at the end", replaceBody("2/3", lose),
			"client 1 (id 77): 1 lost, got 7 of 8 deliveries: 1 from client 2 (numbers 3)", 1},
		{"doubled", replaceBody("2/1", double),
			"client 1 (id 77): 1 duplicated, got 9 of 8 deliveries: 1 from client 2 (numbers 1)", 0},
		{"doubled at the end", replaceBody("2/3", double),
			"client 1 (id 77): 1 duplicated, got 9 of 8 deliveries: 1 from client 2 (numbers 3)", 0},
		{"reordered", delayBody("0/1", "0/3"),
			"client 1 (id 77): 1 reordered, got 8 of 8 deliveries: 1 from client 0 (numbers 1)", 0},
		{"longer", replaceBody("0/1", func(body []byte) [][]byte { return [][]byte{append(body, 0)} }),
			"client 1 (id 77): 1 resized, got 8 of 8 deliveries: 1 from client 0 (numbers 1)", 0},
		{"shorter", replaceBody("0/1", func(body []byte) [][]byte { return [][]byte{body[:20]} }),
			"client 1 (id 77): 1 resized, got 8 of 8 deliveries: 1 from client 0 (numbers 1)", 0},
		{"without header", replaceBody("0/3", func(body []byte) [][]byte { return [][]byte{body[:10]} }),
			"client 1 (id 77): 1 lost, got 8 of 8 deliveries: 1 from client 0 (numbers 3)\n" +
				"client 1 (id 77): 1 resized, got 8 of 8 deliveries: 1 from unknown senders", 1},
		{"from oneself", replaceBody("0/3", func(body []byte) [][]byte {
			c := newTestChecker(64, VerifyFull)
			return [][]byte{body, testBody(c, testSelf, 0)}
		}), "client 1 (id 77): 1 corrupted, got 9 of 8 deliveries: 1 from unknown senders", 0},
		{"a number that is not sent", replaceBody("0/3", func(body []byte) [][]byte {
			c := newTestChecker(64, VerifyFull)
			return [][]byte{body, testBody(c, 0, testMessages)}
		}), "client 1 (id 77): 1 corrupted, got 9 of 8 deliveries: 1 from unknown senders", 0},
		{"a sender that does not exist", replaceBody("0/3", func(body []byte) [][]byte {
			c := newTestChecker(64, VerifyFull)
			return [][]byte{body, testBody(c, 3, 0)}
		}), "client 1 (id 77): 1 corrupted, got 9 of 8 deliveries: 1 from unknown senders", 0},
	}
	for _, verify := range []VerifyMode{VerifyFull, VerifyHeader} {
		for _, test := range tests {
			t.Run(verify.String()+" "+test.name, func(t *testing.T) {
				c := newTestChecker(64, verify)
				feedAll(c, test.change)
				if got := describeProblems(c); got != test.want {
					t.Errorf("got\n%s\nwant\n%s", got, test.want)
				}
				if c.remaining != test.left {
					t.Errorf("%d are missing, want %d", c.remaining, test.left)
				}
			})
		}
	}
}

// TestChecker_DetectsEveryCorruptedByte flips a bit in each byte of a body. Full verification
// detects all of them.
func TestChecker_DetectsEveryCorruptedByte(t *testing.T) {
	const size = 64
	for index := range size {
		c := newTestChecker(size, VerifyFull)
		feedAll(c, replaceBody("2/2", func(body []byte) [][]byte { return [][]byte{flipBit(body, index)} }))
		if got := describeProblems(c); !strings.Contains(got, "1 corrupted") {
			t.Errorf("byte %d: got %q", index, got)
		}
	}
}

func TestChecker_CorruptedTailIsNotLost(t *testing.T) {
	c := newTestChecker(64, VerifyFull)
	feedAll(c, replaceBody("2/2", func(body []byte) [][]byte { return [][]byte{flipBit(body, 60)} }))
	want := "client 1 (id 77): 1 corrupted, got 8 of 8 deliveries: 1 from client 2 (numbers 2)"
	if got := describeProblems(c); got != want || c.remaining != 0 {
		t.Errorf("got %s, %d missing; want %s", got, c.remaining, want)
	}
}

func TestChecker_HeaderModeIgnoresTail(t *testing.T) {
	c := newTestChecker(64, VerifyHeader)
	feedAll(c, replaceBody("2/2", func(body []byte) [][]byte { return [][]byte{flipBit(body, 60)} }))
	if got := describeProblems(c); got != "" {
		t.Errorf("got %s", got)
	}
}

func TestChecker_LimitsListedSenders(t *testing.T) {
	plan := Config{Size: 64, Clients: 100, Messages: 3}.Plan()
	c := newChecker(plan, newPattern(64), VerifyFull, 0)
	sent := make([]uint32, 100)
	for i := range sent {
		sent[i] = 3
	}
	p := c.lostProblem(sent)
	if p.Count != 297 || len(p.Senders) != maxListedSenders || p.MoreSenders != 99-maxListedSenders {
		t.Errorf("got %+v", p)
	}
}

// TestChecker_InterruptedRunReportsOnlyGaps checks that without a list of what was sent, only
// skipped messages count as lost.
func TestChecker_InterruptedRunReportsOnlyGaps(t *testing.T) {
	c := newTestChecker(64, VerifyFull)
	c.check(testBody(c, 0, 0))
	c.check(testBody(c, 0, 2))
	found := Problems{Totals: make(map[ProblemKind]uint64)}
	for _, p := range c.problems(nil, 8) {
		found.add(p)
	}
	if found.Totals[ProblemLost] != 1 || found.Count() != 1 {
		t.Errorf("got %+v", found)
	}
}

func TestChecker_CountOnly(t *testing.T) {
	tests := []struct {
		name   string
		size   int
		verify VerifyMode
		bodies []int // sizes of the bodies
		want   string
	}{
		{"all small", 8, VerifyFull, []int{8, 8, 8, 8, 8, 8, 8, 8}, ""},
		{"all empty", 0, VerifyFull, []int{0, 0, 0, 0, 0, 0, 0, 0}, ""},
		{"lost", 8, VerifyHeader, []int{8, 8, 8, 8, 8, 8},
			"client 1 (id 77): 2 lost, got 6 of 8 deliveries"},
		{"surplus", 8, VerifyFull, []int{8, 8, 8, 8, 8, 8, 8, 8, 8},
			"client 1 (id 77): 1 surplus, got 9 of 8 deliveries"},
		{"wrong size", 8, VerifyFull, []int{8, 8, 8, 7, 8, 8, 8, 8},
			"client 1 (id 77): 1 resized, got 8 of 8 deliveries: 1 from unknown senders"},
		{"off looks at nothing", 64, VerifyOff, []int{64, 1, 0, 64, 64, 64, 64, 64}, ""},
		{"off counts", 64, VerifyOff, []int{64, 64},
			"client 1 (id 77): 6 lost, got 2 of 8 deliveries"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newTestChecker(test.size, test.verify)
			for _, size := range test.bodies {
				c.check(make([]byte, size))
			}
			if got := describeProblems(c); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}
