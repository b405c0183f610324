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

func TestReport_PrintsAddresses(t *testing.T) {
	r := Report{showStats: true, ClientsConnected: 5, Addresses: []AddressCount{{"a:1", 3}, {"b:2", 2}}}
	text := printReport(t, &r)
	if !strings.Contains(text, "Clients Connected to a:1:") || !strings.Contains(text, "Clients Connected to b:2:") {
		t.Errorf("the addresses are missing in\n%s", text)
	}
	if _, text := simulate(t, smallConfig(startHub(t))); strings.Contains(text, "Connected to") {
		t.Errorf("one address is printed in\n%s", text)
	}
}
