package hub

import "time"

// keepAliveLoop keeps connections of version 2 alive, and gives up those that are silent. It
// ends when no connection is read any more.
func (h *Hub) keepAliveLoop() {
	tick := time.NewTicker(h.config.KeepAlive / 2)
	defer tick.Stop()
	var conns []*conn
	for {
		select {
		case <-tick.C:
		case <-h.readersDone:
			return
		}
		conns = h.conns.appendTo(conns[:0])
		for _, c := range conns {
			if v2 := c.v2.Load(); v2 != nil {
				v2.lastSample = v2.lastSample.next(c)
			}
		}
		clear(conns) // do not retain closed connections
	}
}

// keepAliveSample is the state of a connection at one keep-alive check, and the number of
// checks in a row at which it was idle.
type keepAliveSample struct {
	sent, arrived   int64  // bytes
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

// next compares c with its sample of half an interval ago, and returns a new sample. It sends
// a PING when the connection is idle, and interrupts one that is silent for two intervals.
func (prev keepAliveSample) next(c *conn) keepAliveSample {
	now := keepAliveSample{sent: c.sock.Progress().Sent, arrived: c.sock.BytesArrived(), waits: c.sock.WaitSeq()}
	if now.sent == prev.sent {
		now.idleOut = min(prev.idleOut+1, 4)
	}
	if now.arrived == prev.arrived && wasSilent(c, prev.waits, now.waits) {
		now.idleIn = min(prev.idleIn+1, 4)
	}
	switch {
	case now.idleIn >= 4:
		c.v2.Load().timedOut.Store(true)
		c.interruptWaits()
		c.sock.Interrupt() // without effect on a detached connection
	case now.idleOut >= 1 || now.idleIn >= 2:
		c.session().sendPing(c)
	}
	return now
}
