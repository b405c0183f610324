package command

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Version returns the version of the program, of Go, and the target platform.
func Version(program string) string {
	info, _ := debug.ReadBuildInfo()
	return fmt.Sprintf("%s %s %s %s/%s", program, BuildVersion(info), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// BuildVersion returns the version that Go has recorded in the program, followed by the commit
// unless the version contains the commit. It returns "unknown" if the build has no version.
func BuildVersion(info *debug.BuildInfo) string {
	if info == nil || info.Main.Version == "" {
		return "unknown"
	}
	const short = 12 // digits of the commit, as in a version without a tag
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= short && !strings.Contains(info.Main.Version, s.Value[:short]) {
			return info.Main.Version + " (" + s.Value[:short] + ")"
		}
	}
	return info.Main.Version
}
