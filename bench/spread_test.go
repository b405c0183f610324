package main

import "testing"

func TestSpread_String(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   spread
		text   string
	}{
		{[]float64{3}, spread{3, 3, 3}, "3"},
		{[]float64{4, 1}, spread{2.5, 1, 4}, "2.50 (1.00–4.00)"},
		{[]float64{9, 1, 2}, spread{2, 1, 9}, "2 (1–9)"},
		{[]float64{9, 1.5, 2}, spread{2, 1.5, 9}, "2.00 (1.50–9.00)"},
		{[]float64{100.25, 100}, spread{100.125, 100, 100.25}, "100"},
		{[]float64{1234.5, 99}, spread{666.75, 99, 1234.5}, "667 (99–1,234)"},
		{[]float64{0, 0}, spread{}, "0"},
	} {
		got := newSpread(test.values)
		if got != test.want {
			t.Errorf("%v, want %v", got, test.want)
		}
		if text := got.String(); text != test.text {
			t.Errorf("%q, want %q", text, test.text)
		}
	}
}
