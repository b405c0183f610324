package main

import "testing"

func TestResult_Table(t *testing.T) {
	const want = "" +
		"|  | rate | KiB | hub ÷ peer |\n" +
		"|---|---|---|---|\n" +
		"| hub | 750 (500–1,000) | – | – |\n" +
		"| peer, lost 100 of 1,000 | 300 (100–500) | – | 3.50 (2.00–5.00) |\n"
	if got := sampleResult().table(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
