package simulation

import (
	"strings"
	"testing"
)

// TestRun_BrokenConnectionsLoseNothing breaks the connection of each client five times.
func TestRun_BrokenConnectionsLoseNothing(t *testing.T) {
	c := smallConfig(startHub(t))
	c.Protocol, c.ReportLevel, c.Reconnects, c.Messages = 2, LevelReceived, 5, 200
	report, text := simulate(t, c)
	if !report.OK() || report.Breaks != 20 || report.Reports != 800 || report.Fates["received"] != 2400 {
		t.Errorf("%d breaks, %d reports:\n%s", report.Breaks, report.Reports, text)
	}
	if !strings.Contains(text, "Connections broken") {
		t.Errorf("the breaks are missing in\n%s", text)
	}
}
