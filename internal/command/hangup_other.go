//go:build !unix

package command

import "os"

// notifyHangup returns a nil channel on systems without SIGHUP.
func notifyHangup() (signals <-chan os.Signal, done func()) { return nil, func() {} }
