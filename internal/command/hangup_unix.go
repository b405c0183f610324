//go:build unix

package command

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyHangup returns a channel that receives SIGHUP until done is called. Signals that
// arrive before the receiver is ready are merged into one, because the receiver reads the
// newest configuration anyway.
func notifyHangup() (signals <-chan os.Signal, done func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
