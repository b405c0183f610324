package main

import "testing"

func TestFormatNumber(t *testing.T) {
	for _, test := range []struct {
		x    float64
		want string
	}{
		{0, "0"}, {7, "7"}, {999, "999"}, {1000, "1,000"}, {1234567.8, "1,234,568"}, {-1000, "-1,000"}, {-100.5, "-100"},
		{12.345, "12.3"}, {1.2345, "1.23"}, {0.012345, "0.0123"},
	} {
		if got := formatNumber(test.x); got != test.want {
			t.Errorf("%v is %q, want %q", test.x, got, test.want)
		}
	}
}
