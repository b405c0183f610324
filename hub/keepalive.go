package hub

import "time"

// keepAliveLoop keeps connections of version 2 alive, and gives up those that are silent.
type keepAliveLoop struct {
	interval time.Duration // Config.KeepAlive
	conns    *connSet
}

// run checks the connections twice in each interval, until stop is closed.
func (l *keepAliveLoop) run(stop <-chan struct{}) {
	tick := time.NewTicker(l.interval / 2)
	defer tick.Stop()
	var conns []*conn
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		conns = l.conns.appendTo(conns[:0])
		for _, c := range conns {
			if v2 := c.v2.Load(); v2 != nil {
				v2.lastSample = v2.lastSample.next(v2)
			}
		}
		clear(conns) // do not retain closed connections
	}
}

// keepAliveSample is the state of a connection at one keep-alive check, and the number of
// checks in a row at which it was idle.
type keepAliveSample struct {
	sent, arrived   int64  // bytes, arrived without those of WebSocket itself
	waits           uint32 // see socket.Reader.WaitSeq
	idleOut, idleIn int16  // checks without bytes sent, without bytes arrived; at most 4
}

// wasSilent reports whether the client of c, from which nothing has arrived since the last
// check, has sent nothing, given the WaitSeq of the reader at the last check and now. While
// the hub does not read, bytes of the client may find no room to arrive. Then the client is
// alive as long as its kernel acknowledges what the hub sends or, where that is not known,
// while its rate limit makes it wait.
func wasSilent(c *conn, waitsBefore, waitsNow uint32) bool {
	if waitsBefore == waitsNow && waitsNow%2 == 1 {
		return true // the reader has waited for the client all the time
	}
	if sinceAck, known := c.sock.SinceTCPAck(); known {
		return sinceAck > c.hub.config.KeepAlive/2
	}
	return !c.is(flagRateLimited)
}

// next compares a connection with its sample of half an interval ago, and returns a new sample.
// It sends a PING when the connection is idle, and interrupts one that is silent for two
// intervals.
func (prev keepAliveSample) next(v2 *connV2) keepAliveSample {
	c := v2.conn
	now := keepAliveSample{sent: c.sock.Progress().Sent, arrived: c.sock.FrameBytesArrived(), waits: c.sock.WaitSeq()}
	if now.sent == prev.sent {
		now.idleOut = min(prev.idleOut+1, 4)
	}
	if now.arrived == prev.arrived && wasSilent(c, prev.waits, now.waits) {
		now.idleIn = min(prev.idleIn+1, 4)
	}
	switch {
	case now.idleIn >= 4:
		v2.timedOut.Store(true)
		v2.interrupt()
	case now.idleOut >= 1 || now.idleIn >= 2:
		v2.session.sendPing(c)
	}
	return now
}
