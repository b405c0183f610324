package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLeaseGaps_OfEachProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hub.log")
	const text = `{"time":"2026-01-01T00:00:00Z","msg":"joined the cluster"}
{"time":"2026-01-01T00:00:10Z","msg":"the lease of the hub has run out"}
no line of the hub
{"time":"2026-01-01T00:00:12.5Z","msg":"the hub has its lease again"}
{"time":"2026-01-01T00:00:20Z","msg":"the lease of the hub has run out"}
{"time":"2026-01-01T00:01:00Z","msg":"joined the cluster"}
{"time":"2026-01-01T00:01:10Z","msg":"the hub has its lease again"}
`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	gaps, err := leaseGaps("hub1", file)
	if err != nil || len(gaps) != 1 || gaps[0].Seconds != 2.5 || gaps[0].from.Second() != 10 {
		t.Errorf("%+v, %v", gaps, err)
	}
}

func TestSuspiciousLines_OnlyWhatNoFaultExplains(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hub.log")
	const text = `{"level":"WARN","msg":"link to hub broken","cause":"nothing was heard of the hub"}
{"level":"WARN","msg":"link to hub broken","cause":"the other hub sends nonsense: x"}
{"level":"ERROR","msg":"x"}
`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if lines, err := suspiciousLines(file); err != nil || len(lines) != 2 {
		t.Errorf("%q, %v", lines, err)
	}
}
