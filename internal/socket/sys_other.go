//go:build !linux

package socket

import (
	"errors"
	"syscall"
	"time"
)

// rawSupported says that connections are read and written only by the net package: an idle
// connection then holds a small buffer while it waits.
const rawSupported = false

var errNoRaw = errors.New("raw connections are not supported on this platform")

func readRaw(uintptr, []byte) (n int, again bool, err error) { return 0, false, errNoRaw }

func unreadRaw(uintptr) int { return 0 } // available data is read at once

func sinceTCPAckRaw(uintptr) (ago time.Duration, known bool) { return 0, false }

func peerEndedRaw(uintptr) bool { return false }

func setRcvLowatRaw(uintptr, int) error { return errNoRaw }

func pollRcvLowatRaw(uintptr, int) (ready bool, err error) { return false, errNoRaw }

func setRcvLowatCappedRaw(uintptr, int) error { return errNoRaw }

func kernelStateRaw(uintptr, int) (state int, err error) { return kernelAccepting, errNoRaw }

func kernelMemory() int64 { return 0 }

func writableRaw(uintptr) bool { return true }

// vector is a list of memory areas to write.
type vector [][]byte

func (v vector) add(p []byte) vector { return append(v, p) }

func (v vector) size() int { return 0 } // no vector is ever written

func writeRaw(uintptr, vector) (n int, again bool, err error) { return 0, false, errNoRaw }

func setSocketOptions(syscall.RawConn, *Config) {}
