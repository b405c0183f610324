//go:build !linux

package notify

import (
	"errors"
	"time"
)

// monotonic is not supported: only systemd needs it, and systemd runs only on Linux.
func monotonic() (time.Duration, error) { return 0, errors.ErrUnsupported }
