//go:build !unix

package command

import "os"

// hangups hears nothing where there is no SIGHUP.
func hangups() (signals <-chan os.Signal, done func()) { return nil, func() {} }
