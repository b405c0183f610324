package presence

import (
	"slices"
	"testing"
)

// TestClaims_LastClaimCounts has groups a, b and c claim one id and leave it, in several orders.
// Upper case claims, lower case leaves.
func TestClaims_LastClaimCounts(t *testing.T) {
	for _, test := range []struct {
		steps, want string // want: the group that counts after each step; '-': none
	}{
		{"Aa", "a-"},
		{"ABba", "aba-"},
		{"ABab", "abb-"},
		{"ABCbca", "abcca-"},
		{"ABCcba", "abcba-"},
		{"ABAab", "abab-"}, // a claims again
		{"AAa", "aa-"},
		{"aAbcaA", "-aaa-a"}, // who does not claim the id does not leave it
		{"ABCBbAca", "abcbcaa-"},
	} {
		var c claims[string]
		handles := map[string]groupHandle{"a": c.open("a"), "b": c.open("b"), "c": c.open("c")}
		claim := map[string]bool{}
		for i, step := range test.steps {
			name := string(step | 0x20)
			present := len(claim) > 0
			if step&0x20 == 0 {
				if first := c.add(7, handles[name]); first == present {
					t.Errorf("%s, step %d: the first claim: %t", test.steps, i, first)
				}
				claim[name] = true
			} else {
				delete(claim, name)
				if last := c.remove(7, handles[name]); last != (present && len(claim) == 0) {
					t.Errorf("%s, step %d: the last claim: %t", test.steps, i, last)
				}
			}
			member, ok := c.find(7)
			if want := test.want[i : i+1]; member != want && (ok || want != "-") {
				t.Errorf("%s, step %d: %q counts, want %s", test.steps, i, member, want)
			}
			for name, h := range handles {
				if got, want := c.groups[h].size == 1, claim[name]; got != want || c.has(7, h) != want {
					t.Errorf("%s, step %d: %s has the id: %t, %t, want %t", test.steps, i, name, got, c.has(7, h), want)
				}
			}
		}
	}
}

// TestClaims_ClosedGroup_GivesHandleBack opens and closes groups: few handles are in use, and what
// is empty holds no map.
func TestClaims_ClosedGroup_GivesHandleBack(t *testing.T) {
	var c claims[int]
	for i := range 10 {
		a, b := c.open(2*i), c.open(2*i+1)
		for id := range uint64(100) {
			c.add(id, a)
			c.add(id, b)
		}
		if member, _ := c.find(5); member != 2*i+1 {
			t.Errorf("found group %d", member)
		}
		for id := range uint64(100) {
			c.remove(id, b)
			c.remove(id, a)
		}
		if c.byID != nil || c.below != nil {
			t.Error("a map without elements is kept")
		}
		c.close(b)
		c.close(a)
	}
	if len(c.groups) != 2 || len(c.handles) != 0 || !slices.Equal(c.groups, make([]group[int], 2)) {
		t.Errorf("groups %v, handles %v", c.groups, c.handles)
	}
}
