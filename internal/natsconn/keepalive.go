package natsconn

import "time"

var pingLine, pongLine = []byte("PING\r\n"), []byte("PONG\r\n")

// keepAlive sends pings, and the answers to those of the server, until the connection ends.
func (c *Conn) keepAlive() {
	ticker := time.NewTicker(c.config.PingInterval)
	defer ticker.Stop()
	var reads uint64 // when the last ping was sent
	for unanswered := 0; ; {
		line := pongLine
		select {
		case <-c.done:
			return
		case <-c.pongsOwed:
		case <-ticker.C:
			last := reads
			if reads = c.reads.Load(); reads != last || reads%2 == 0 { // something came, or is handled
				unanswered = 0
			}
			if unanswered == c.config.MaxPings {
				c.fail(ErrStale)
				return
			}
			unanswered++
			line = pingLine
		}
		if c.writeControl(line) != nil {
			return
		}
	}
}
