package main

import (
	"github.com/nats-io/nats.go"
)

// natsDriver is a NATS server, through nats.go.
type natsDriver struct {
	url             string
	options         []nats.Option
	channels        channels
	libraryDefaults bool
}

func newNATSDriver(t target, n int) driver {
	d := &natsDriver{url: "nats://" + t.addr, channels: t.channels(n, "."), libraryDefaults: t.libraryDefaults}
	// The pattern is "everyone else", and the server can do that.
	d.options = append(d.options, nats.NoEcho())
	if !t.libraryDefaults {
		// A connection that breaks ends the run. With a new one in its place, what was
		// lost would only be seen at the end.
		d.options = append(d.options, nats.NoReconnect(), nats.Timeout(dialTimeout))
	}
	return d
}

// natsConn is one connection.
type natsConn struct {
	driver  *natsDriver
	conn    *nats.Conn
	closing chan struct{} // closed by close
	done    chan struct{} // closed when nothing more is delivered
}

// connect subscribes with a callback: the reading goroutine hands each message to the
// one that calls it, and there is no third as there would be with a channel to
// read from.
func (d *natsDriver) connect(i int, cb callbacks) (driverConn, error) {
	dc := &natsConn{driver: d, closing: make(chan struct{}), done: make(chan struct{})}
	var err error
	if dc.conn, err = nats.Connect(d.url, append(d.options, nats.ClosedHandler(dc.closedHandler(cb)))...); err != nil {
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
			err = sub.SetPendingLimits(-1, -1) // nothing is dropped
		}
	}
	if err == nil {
		err = dc.conn.Flush() // the server has taken the subscription
	}
	if err != nil {
		dc.conn.Close()
		return nil, err
	}
	return dc, nil
}

// closedHandler returns what is called when a connection is over.
func (dc *natsConn) closedHandler(cb callbacks) func(*nats.Conn) {
	return func(c *nats.Conn) {
		select {
		case <-dc.closing:
		default:
			cb.onError(c.LastError())
		}
	}
}

// send publishes once to everyone, or once to each receiver: a subject names one
// set of subscribers. The library gathers what is published in a buffer that its
// own goroutine writes at once, so nothing is kept back here; Flush would wait for
// the server's answer as well.
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

// visitNATS learns the id from what the server says when it is connected to.
func visitNATS(addr string) error {
	c, err := nats.Connect("nats://"+addr, nats.NoReconnect(), nats.Timeout(dialTimeout))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.GetClientID()
	return err
}
