package client

import "time"

// vigil watches over a connection: something must come from the hub, and be sent to
// it, once in each keep-alive interval.
type vigil struct {
	link  *link
	every time.Duration // half of the interval

	arrived, sent int64
	waits         uint32 // see socket.Reader.Waits
	quiet         int    // how many looks in a row have found nothing new
}

// live begins the vigil, in place of the one over the greeting.
func (l *link) live(interval time.Duration) {
	if l.timer != nil {
		l.timer.Stop()
	}
	v := &vigil{link: l, every: interval / 2}
	time.AfterFunc(v.every, v.look) // ends with the connection, at the next look
}

func (v *vigil) look() {
	l := v.link
	select {
	case <-l.over:
		return
	default:
	}
	// A large frame is read when all of it is there, and nothing while the application has the reading goroutine.
	arrived, waits := l.conn.Arrived(), l.conn.Waits()
	if arrived != v.arrived || waits != v.waits || waits%2 == 0 {
		v.arrived, v.waits, v.quiet = arrived, waits, 0
	} else if v.quiet++; v.quiet >= 4 {
		l.silent.Store(true)
		l.conn.Finish()
		return
	}
	if s := l.conn.Pulse().Sent; s != v.sent {
		v.sent = s
	} else {
		l.probe()
	}
	time.AfterFunc(v.every, v.look)
}
