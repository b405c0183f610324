package command

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// version says what was built, and with what.
func version(program string) string {
	info, _ := debug.ReadBuildInfo()
	return fmt.Sprintf("%s %s %s %s/%s", program, buildVersion(info), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildVersion names the version that Go has found in the repository, and its commit, unless that
// stands in it. A build from elsewhere has neither.
func buildVersion(info *debug.BuildInfo) string {
	if info == nil || info.Main.Version == "" {
		return "unknown"
	}
	const short = 12 // as in the version of a commit without a tag
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= short && !strings.Contains(info.Main.Version, s.Value[:short]) {
			return info.Main.Version + " (" + s.Value[:short] + ")"
		}
	}
	return info.Main.Version
}
