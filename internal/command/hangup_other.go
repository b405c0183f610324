//go:build !unix

package command

import "os"

// notifyHangup hears nothing where there is no SIGHUP.
func notifyHangup() (signals <-chan os.Signal, done func()) { return nil, func() {} }
