package admin

import (
	"net"
	"sync"
	"sync/atomic"
)

// few is a listener that closes connections beyond a number at once, so that whoever
// opens many takes no files from the hub.
type few struct {
	net.Listener
	most int32
	open atomic.Int32
}

// Accept implements net.Listener.
func (l *few) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			return &oneOfFew{Conn: nc, leave: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		nc.Close()
	}
}

// oneOfFew is a connection that makes room for another one when it is closed.
type oneOfFew struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *oneOfFew) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}
