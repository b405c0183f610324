package settings

import (
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"
)

// sample has the settings of a program, for tests.
type sample struct {
	settings  *Settings
	port      int
	addr      string
	stat      bool
	maxMemory int64
	stall     time.Duration
}

func newSample() *sample {
	c := &sample{settings: New("sample", "SAMPLE", "sample does nothing.")}
	s := c.settings
	Add(s, &c.port, "port", 9999, IntRange(0, math.MaxUint16), "TCP port")
	Add(s, &c.addr, "addr", "", AnyText(), "address")
	Add(s, &c.stat, "stat", true, Boolean(), "print statistics", Reloadable)
	Add(s, &c.maxMemory, "max-memory", 64<<20, Size(1<<20, 1<<50), "memory limit")
	Add(s, &c.stall, "stall", 10*time.Second, Duration(time.Millisecond, 24*time.Hour), "time limit", Reloadable)
	s.AddShowFlags()
	s.AddCommonFlags(Reloadable)
	return c
}

// parseSample reads valid settings.
func parseSample(t *testing.T, args ...string) *sample {
	t.Helper()
	c := newSample()
	if err := c.settings.Read(args); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSettings_EnvVar(t *testing.T) {
	if got := newSample().settings.EnvVar("max-memory"); got != "SAMPLE_MAX_MEMORY" {
		t.Errorf("got %s", got)
	}
}

func TestSettings_IsSet(t *testing.T) {
	t.Setenv("SAMPLE_ADDR", "::1")
	s := parseSample(t, "-port=9999", "-config="+writeConfigFile(t, "stat true")).settings
	for name, want := range map[string]bool{"port": true, "addr": true, "stat": true, "stall": false, "check": false, "no-such": false} {
		if got := s.IsSet(name); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}

// TestSettings_Logger checks that the higher of -log-level and the minimum applies.
func TestSettings_Logger(t *testing.T) {
	for level, want := range map[string]string{"debug": "WARN", "warn": "WARN", "error": ""} {
		var log strings.Builder
		logger := parseSample(t, "-log-level="+level, "-log=json").settings.Logger(&log, slog.LevelWarn)
		logger.Info("one")
		logger.Warn("two")
		if got := log.String(); (got != "") != (want != "") || !strings.Contains(got, want) || strings.Contains(got, "one") {
			t.Errorf("-log-level=%s logs %q", level, got)
		}
	}
}
