package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPage_WriteResult(t *testing.T) {
	p := page{filepath.Join(t.TempDir(), "page.md")}
	const before = "# Title\n\n<!-- bench:sample -->\nold\n<!-- /bench:sample -->\n\nThe end.\n"
	if err := os.WriteFile(p.file, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.check([]string{"sample"}); err != nil {
		t.Error(err)
	}
	if err := p.check([]string{"sample", "other"}); err == nil {
		t.Error("no error for a section without markers")
	}
	r := sampleResult()
	if err := p.writeResult(r, "Measured on a day."); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	want := "# Title\n\n<!-- bench:sample -->\nTwo systems. Median of 2 rounds (minimum–maximum). Measured on a day.\n\n" + r.table() +
		"\nA note.\n\n![Rates](charts/sample.svg)\n\n![Growth](charts/sample-2.svg)\n<!-- /bench:sample -->\n\nThe end.\n"
	if string(b) != want {
		t.Errorf("got\n%swant\n%s", b, want)
	}
	for _, name := range []string{"sample.svg", "sample-2.svg"} {
		svg, err := os.ReadFile(filepath.Join(filepath.Dir(p.file), chartsDir, name))
		if err != nil || !strings.Contains(string(svg), "deliveries/s") {
			t.Errorf("%s: %v, %d bytes, without its axis", name, err, len(svg))
		}
	}
}
