package command

import (
	"runtime/debug"
	"testing"
)

func TestBuildVersion(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	for _, tt := range []struct{ version, commit, want string }{
		{"v1.2.3", commit, "v1.2.3 (0123456789ab)"},
		{"v1.2.4-0.20261123031500-0123456789ab", commit, "v1.2.4-0.20261123031500-0123456789ab"},
		{"v1.2.3", "", "v1.2.3"}, // built from the module cache
		{"(devel)", "", "(devel)"},
		{"", commit, "unknown"},
	} {
		info := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "CGO_ENABLED", Value: "0"}, {Key: "vcs.revision", Value: tt.commit}}}
		info.Main.Version = tt.version
		if got := BuildVersion(info); got != tt.want {
			t.Errorf("%q of %q: %q, want %q", tt.version, tt.commit, got, tt.want)
		}
	}
	if got := BuildVersion(nil); got != "unknown" {
		t.Errorf("without build information: %q", got)
	}
}
