package hub_test

import "testing"

// checkTexts checks that the values are 0, 1, 2 and so on, that each has a text of its own, and
// that unknown is the text of the value 200, which does not exist.
func checkTexts[R interface {
	~uint8
	String() string
}](t *testing.T, values []R, unknown string) {
	t.Helper()
	if len(values) == 0 {
		t.Fatal("no values")
	}
	seen := make(map[string]bool)
	for i, value := range values {
		text := value.String()
		if int(value) != i || text == "" || text == R(len(values)).String() || seen[text] {
			t.Errorf("value %d is %d with the text %q, which is wrong or not its own", i, value, text)
		}
		seen[text] = true
	}
	if got := R(200).String(); got != unknown {
		t.Errorf("value 200: got %q, want %q", got, unknown)
	}
}
