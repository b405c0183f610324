package client

import "time"

// keepAlive watches over a connection: something must come from the hub, and be sent to
// it, once in each keep-alive interval.
type keepAlive struct {
	conn          *conn
	checkInterval time.Duration // half of the interval

	arrived, sent int64
	waits         uint32 // see socket.Reader.WaitSeq
	idleChecks    int    // how many looks in a row have found nothing new
}

// startKeepAlive begins the vigil, in place of the one over the greeting.
func (cn *conn) startKeepAlive(interval time.Duration) {
	if cn.timer != nil {
		cn.timer.Stop()
	}
	k := &keepAlive{conn: cn, checkInterval: interval / 2}
	time.AfterFunc(k.checkInterval, k.check) // ends with the connection, at the next look
}

func (k *keepAlive) check() {
	cn := k.conn
	select {
	case <-cn.done:
		return
	default:
	}
	// A large frame is read when all of it is there, and nothing while the application has the reading goroutine.
	arrived, waits := cn.sock.BytesArrived(), cn.sock.WaitSeq()
	if arrived != k.arrived || waits != k.waits || waits%2 == 0 {
		k.arrived, k.waits, k.idleChecks = arrived, waits, 0
	} else if k.idleChecks++; k.idleChecks >= 4 {
		cn.keepAliveTimedOut.Store(true)
		cn.sock.StopWhenEmpty()
		return
	}
	if s := cn.sock.Progress().Sent; s != k.sent {
		k.sent = s
	} else {
		cn.probe()
	}
	time.AfterFunc(k.checkInterval, k.check)
}
