//go:build !linux

package notify

import (
	"errors"
	"time"
)

// monotonic is wanted by systemd alone, which runs on Linux alone.
func monotonic() (time.Duration, error) { return 0, errors.ErrUnsupported }
