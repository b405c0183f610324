package main

import (
	"github.com/nats-io/nats.go"
)

// natsNetwork is a NATS server, through nats.go.
type natsNetwork struct {
	url      string
	options  []nats.Option
	channels channels
	defaults bool
}

func newNATSNetwork(t target, n int) network {
	network := &natsNetwork{url: "nats://" + t.addr, channels: t.channels(n, "."), defaults: t.defaults}
	// The pattern is "everyone else", and the server can do that.
	network.options = append(network.options, nats.NoEcho())
	if !t.defaults {
		// A connection that breaks ends the run. With a new one in its place, what was
		// lost would only be seen at the end.
		network.options = append(network.options, nats.NoReconnect(), nats.Timeout(dialTime))
	}
	return network
}

// natsMember is one connection.
type natsMember struct {
	network *natsNetwork
	conn    *nats.Conn
	leaving chan struct{} // closed by close
	done    chan struct{} // closed when nothing more is delivered
}

// join subscribes with a callback: the reading goroutine hands each message to the
// one that calls it, and there is no third as there would be with a channel to
// read from.
func (n *natsNetwork) join(i int, in inbox) (member, error) {
	m := &natsMember{network: n, leaving: make(chan struct{}), done: make(chan struct{})}
	var err error
	if m.conn, err = nats.Connect(n.url, append(n.options, nats.ClosedHandler(m.closed(in)))...); err != nil {
		return nil, err
	}
	if in.deliver == nil {
		close(m.done)
		return m, nil
	}
	sub, err := m.conn.Subscribe(n.channels.of(i), func(message *nats.Msg) { in.deliver(message.Data) })
	if err == nil {
		sub.SetClosedHandler(func(string) { close(m.done) })
		if !n.defaults {
			err = sub.SetPendingLimits(-1, -1) // nothing is dropped
		}
	}
	if err == nil {
		err = m.conn.Flush() // the server has taken the subscription
	}
	if err != nil {
		m.conn.Close()
		return nil, err
	}
	return m, nil
}

// closed returns what is called when a connection is over.
func (m *natsMember) closed(in inbox) func(*nats.Conn) {
	return func(c *nats.Conn) {
		select {
		case <-m.leaving:
		default:
			in.fail(c.LastError())
		}
	}
}

// send publishes once to everyone, or once to each receiver: a subject names one
// set of subscribers. The library gathers what is published in a buffer that its
// own goroutine writes at once, so nothing is kept back here; Flush would wait for
// the server's answer as well.
func (m *natsMember) send(to []int32, body []byte, _ bool) error {
	if !m.network.channels.direct {
		return m.conn.Publish(m.network.channels.all, body)
	}
	for _, r := range to {
		if err := m.conn.Publish(m.network.channels.own[r], body); err != nil {
			return err
		}
	}
	return nil
}

func (m *natsMember) close() {
	close(m.leaving)
	m.conn.Close()
	<-m.done
}

// visitNATS learns the id from what the server says when it is connected to.
func visitNATS(addr string) error {
	c, err := nats.Connect("nats://"+addr, nats.NoReconnect(), nats.Timeout(dialTime))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.GetClientID()
	return err
}
