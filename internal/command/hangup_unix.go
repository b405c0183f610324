//go:build unix

package command

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyHangup hears SIGHUP until done is called. Several in a row are one: whoever hears
// the last of them reads what stands there by then.
func notifyHangup() (signals <-chan os.Signal, done func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
