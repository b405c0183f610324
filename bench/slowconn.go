package main

import (
	"net"
	"time"
)

// slowBurst bytes at a time and a pause of slowPause between two bursts model a slow link that
// loses packets. The average is 48 KiB a second, below hub.Config.MinRate.
const (
	slowBurst = 144 << 10
	slowPause = 3 * time.Second
)

// slowConn is a connection that writes a burst of slowBurst bytes, then pauses for slowPause.
type slowConn struct {
	net.Conn
	burstLeft int // of this burst; owned by the writing goroutine
}

func (c *slowConn) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		if c.burstLeft == 0 {
			time.Sleep(slowPause)
			c.burstLeft = slowBurst
		}
		var m int
		m, err = c.Conn.Write(p[:min(len(p), c.burstLeft, 16<<10)])
		c.burstLeft -= m
		n += m
		p = p[m:]
	}
	return n, err
}
