package client

import (
	"sync/atomic"
	"time"
)

// keepAlive monitors a connection. Within each keep-alive interval, bytes must arrive from the
// hub and be sent to the hub.
type keepAlive struct {
	// Static after startKeepAlive.
	conn          *conn
	probe         func()        // sends a PING
	checkInterval time.Duration // half of the keep-alive interval

	timedOut atomic.Bool // no bytes came for two keep-alive intervals

	// Owned by check, which runs once at a time.
	arrived, sent int64
	waits         uint32 // see socket.Reader.WaitSeq
	idleChecks    int    // consecutive checks without new bytes
}

// startKeepAlive starts the keep-alive monitor of cn.
func startKeepAlive(cn *conn, interval time.Duration, probe func()) *keepAlive {
	k := &keepAlive{conn: cn, probe: probe, checkInterval: interval / 2}
	time.AfterFunc(k.checkInterval, k.check) // the timer ends at the first check after the connection
	return k
}

func (k *keepAlive) check() {
	cn := k.conn
	select {
	case <-cn.done:
		return
	default:
	}
	// A large frame is read only when all of it has arrived, and nothing is read while a callback
	// of the application has the read goroutine. WaitSeq is odd while the goroutine waits for
	// bytes.
	arrived, waits := cn.sock.BytesArrived(), cn.sock.WaitSeq()
	if arrived != k.arrived || waits != k.waits || waits%2 == 0 {
		k.arrived, k.waits, k.idleChecks = arrived, waits, 0
	} else if k.idleChecks++; k.idleChecks >= 4 {
		k.timedOut.Store(true)
		cn.sock.StopWhenEmpty()
		return
	}
	if s := cn.sock.Progress().Sent; s != k.sent {
		k.sent = s
	} else {
		k.probe()
	}
	time.AfterFunc(k.checkInterval, k.check)
}
