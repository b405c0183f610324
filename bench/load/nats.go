package main

import (
	"github.com/nats-io/nats.go"
)

// natsDriver drives a NATS server through nats.go.
type natsDriver struct {
	urlOf           func(client int) string
	options         []nats.Option
	channels        channels
	libraryDefaults bool
}

func newNATSDriver(t target, n int) driver {
	return newNATSDriverFor(t, n, func(i int) string { return "nats://" + t.addrOf(i) })
}

// newNATSWSDriver returns a driver whose clients connect by WebSocket.
func newNATSWSDriver(t target, n int) driver {
	return newNATSDriverFor(t, n, func(int) string { return "ws://" + t.webAddr })
}

func newNATSDriverFor(t target, n int, urlOf func(client int) string) driver {
	d := &natsDriver{urlOf: urlOf, channels: t.channels(n, "."), libraryDefaults: t.libraryDefaults}
	// Messages go to all other clients, which the server supports.
	d.options = append(d.options, nats.NoEcho())
	if !t.libraryDefaults {
		// A lost connection ends the run. With a reconnect, a loss would be noticed only at the end.
		d.options = append(d.options, nats.NoReconnect(), nats.Timeout(dialTimeout))
	}
	return d
}

// natsConn is one client of the server.
type natsConn struct {
	driver  *natsDriver
	conn    *nats.Conn
	closing chan struct{} // closed by close
	done    chan struct{} // closed when onBody is not called any more
}

// connect subscribes with a callback: the reading goroutine passes each message to the
// goroutine that calls the callback. A channel subscription would add a third goroutine.
func (d *natsDriver) connect(i int, cb callbacks) (driverConn, error) {
	dc := &natsConn{driver: d, closing: make(chan struct{}), done: make(chan struct{})}
	var err error
	if dc.conn, err = nats.Connect(d.urlOf(i), append(d.options, nats.ClosedHandler(dc.closedHandler(cb)))...); err != nil {
		return nil, err
	}
	if cb.onBody == nil {
		close(dc.done)
		return dc, nil
	}
	sub, err := dc.conn.Subscribe(d.channels.subscription(i), func(message *nats.Msg) { cb.onBody(message.Data) })
	if err == nil {
		sub.SetClosedHandler(func(string) { close(dc.done) })
		if !d.libraryDefaults {
			err = sub.SetPendingLimits(-1, -1) // drop nothing
		}
	}
	if err == nil {
		err = dc.conn.Flush() // returns when the server has processed the subscription
	}
	if err != nil {
		dc.conn.Close()
		return nil, err
	}
	return dc, nil
}

// closedHandler returns the handler of the end of a connection.
func (dc *natsConn) closedHandler(cb callbacks) func(*nats.Conn) {
	return func(c *nats.Conn) {
		select {
		case <-dc.closing:
		default:
			cb.onError(c.LastError())
		}
	}
}

// send publishes once to all clients, or once to each receiver, because a subject addresses
// one set of subscribers. The library collects messages in a buffer that its own goroutine
// writes immediately, therefore send ignores more; Flush would also wait for a reply of the
// server.
func (dc *natsConn) send(to []int32, body []byte, _ bool) error {
	if !dc.driver.channels.direct {
		return dc.conn.Publish(dc.driver.channels.broadcast, body)
	}
	for _, r := range to {
		if err := dc.conn.Publish(dc.driver.channels.perClient[r], body); err != nil {
			return err
		}
	}
	return nil
}

func (dc *natsConn) close() {
	close(dc.closing)
	dc.conn.Close()
	<-dc.done
}

// visitNATS connects and reads the client id from the server's INFO.
func visitNATS(addr string) error {
	c, err := nats.Connect("nats://"+addr, nats.NoReconnect(), nats.Timeout(dialTimeout))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.GetClientID()
	return err
}
