//go:build !unix

package command

import "log/slog"

// warnOfFewFiles has nothing to say where there is no such limit.
func warnOfFewFiles(*slog.Logger, int) {}
