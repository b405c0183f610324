package settings

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

// TestSettings_Adopt changes a setting that is reloadable, and one that is not.
func TestSettings_Adopt(t *testing.T) {
	var log strings.Builder
	c, next := parseSample(t, "-port=1", "-stall=1s"), parseSample(t, "-port=2", "-stall=2s", "-addr=")
	changed, needRestart := c.settings.Adopt(next.settings, NewLogger(&log, LogText, slog.LevelInfo))
	if changed != 1 || needRestart != 1 || c.stall != 2*time.Second || c.port != 1 {
		t.Errorf("%d changed, %d need a restart: %+v", changed, needRestart, c)
	}
	for _, want := range []string{
		`level=INFO msg="setting changed" setting=stall old=1s new=2s source=flag`,
		`level=WARN msg="setting requires a restart to change" setting=port old=1 new=2 source=flag`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("did not log %s:\n%s", want, &log)
		}
	}
	if !c.settings.IsSet("addr") {
		t.Error("the origin of an unchanged value is not adopted")
	}
}

func TestSettings_CheckRereadable(t *testing.T) {
	for _, tt := range []struct{ path, want string }{
		{"", ""}, {writeConfigFile(t, "port 1"), ""}, {os.DevNull, "is not a regular file"}, {"/no/such/file", "config file: "},
	} {
		s := newSample().settings
		s.configPath = tt.path
		err := s.CheckRereadable()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.path, err, tt.want)
		}
	}
}
