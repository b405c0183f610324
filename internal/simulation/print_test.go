package simulation

import (
	"strings"
	"testing"
)

// TestReport_PrintsSpecifiedNames checks for the names of the system's specification, in its
// order.
func TestReport_PrintsSpecifiedNames(t *testing.T) {
	_, text := simulate(t, smallConfig(startHub(t)))
	offset := 0
	for _, name := range []string{
		"Duration:", "Clients Connected:", "Clients Disconnected:",
		"Incoming Messages:", "Outgoing Messages:", "Bytes Read:", "Bytes Written:",
		"Incoming Messages per second:", "Outgoing Messages per second:",
		"Bytes Read per second:", "Bytes Written per second:",
		"Transfer time:", "Latency p50:", "Latency p90:", "Latency p99:", "Latency p99.9:", "Latency max:",
	} {
		i := strings.Index(text[offset:], "\n"+name)
		if offset == 0 {
			i = strings.Index(text, name)
		}
		if i < 0 {
			t.Fatalf("%q is not in, or not in its place:\n%s", name, text)
		}
		offset += i + 1
	}
}
