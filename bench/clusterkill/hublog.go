package main

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"time"
)

// Log lines of start_server.
const (
	leaseLostLine  = "the lease of the hub has run out"
	leaseFoundLine = "the hub has its lease again"
)

// leaseGap is a time in which a hub was not sure of its number and refused new sessions.
type leaseGap struct {
	Hub     string  `json:"hub"`
	Fault   string  `json:"fault"` // the last one before
	Seconds float64 `json:"seconds"`

	from time.Time
}

// leaseGaps reads from the log of a hub when it had no lease, until end.
func leaseGaps(name, file string) (gaps []leaseGap, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lost time.Time
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var line struct {
			Time time.Time `json:"time"`
			Msg  string    `json:"msg"`
		}
		if json.Unmarshal(scanner.Bytes(), &line) != nil {
			continue // a line of the runtime
		}
		switch {
		case line.Msg == leaseLostLine:
			lost = line.Time
		case line.Msg == leaseFoundLine && !lost.IsZero():
			gaps = append(gaps, leaseGap{Hub: name, Seconds: line.Time.Sub(lost).Seconds(), from: lost})
			lost = time.Time{}
		case strings.HasPrefix(line.Msg, "joined the cluster"):
			lost = time.Time{} // another process
		}
	}
	return gaps, scanner.Err()
}

// suspiciousTexts are parts of log lines that no fault of the network or of a server explains.
var suspiciousTexts = []string{`"level":"ERROR"`, "nonsense", "hub rejected", "panic", "goroutine "}

// suspiciousLines returns the lines of the log of a hub that have one of suspiciousTexts.
func suspiciousLines(file string) (lines []string, err error) {
	text, err := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if slices.ContainsFunc(suspiciousTexts, func(t string) bool { return strings.Contains(line, t) }) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines, err
}

// tail returns the last lines of a file.
func tail(file string, lines int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
