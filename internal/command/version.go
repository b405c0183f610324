package command

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version says what was built, and with what.
func version(program string) string {
	built := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		built = info.Main.Version
	}
	return fmt.Sprintf("%s %s %s %s/%s", program, built, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
