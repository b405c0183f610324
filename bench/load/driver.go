package main

import (
	"fmt"
	"time"
)

// target is the server to drive and the options of its clients.
type target struct {
	system          string
	addr            string
	otherAddr       string // of the server of the cluster that serves all but the first clients; "": addr serves all
	first           int    // clients at addr, if there is an otherAddr
	webAddr         string // for WebSockets, in systems that use them
	token           string // of the clients of a hub; "": they use v1, without a token
	namePrefix      string // distinguishes the names of two loads on one server
	size            int    // bytes of each body
	direct          bool   // messages name their receivers; otherwise they go to all clients
	libraryDefaults bool   // keep the default options of the client library
}

// addrOf returns the address of the server of client i.
func (t target) addrOf(i int) string {
	if t.otherAddr != "" && i >= t.first {
		return t.otherAddr
	}
	return t.addr
}

// awaitCluster waits until the servers of a cluster certainly know the clients of each other. A hub
// says within 100 ms who has connected, and nats-server says it at once. A client that is not known
// in time shows as a loss.
func (t target) awaitCluster() {
	if t.otherAddr != "" {
		time.Sleep(time.Second)
	}
}

// driver connects the clients of one system. The clients are numbered from 0.
type driver interface {
	// connect connects client i. It returns when the server has confirmed that all later messages
	// of other clients reach in. connect can be called concurrently, and is called for all
	// clients before the first one sends.
	connect(i int, in callbacks) (driverConn, error)
}

// driverConn is a connected client. One goroutine calls send.
type driverConn interface {
	// send sends body to the clients in to, or to all other clients if the target is not direct.
	// more means that another message follows immediately, therefore the driver can delay this
	// one to batch them. The caller can change body after send has returned.
	send(to []int32, body []byte, more bool) error

	// close closes the connection. After it has returned, the callbacks are not called. It can be
	// called while send is blocked, and unblocks send.
	close()
}

// callbacks receives the messages and errors of a client.
type callbacks struct {
	// onBody handles one body, which is valid until it returns. One goroutine at a time calls it.
	// It is nil for a client that expects no messages; such a client does not subscribe.
	onBody func(body []byte)

	// onError handles the error that ends the delivery of messages.
	onError func(error)
}

// channels are the names to which clients subscribe, in systems that address subjects, topics
// or channels instead of clients.
type channels struct {
	direct    bool
	broadcast string
	perClient []string // by client
}

// channels returns the names for n clients. The separator of the system joins the parts of a
// name.
func (t target) channels(n int, separator string) channels {
	c := channels{direct: t.direct, broadcast: t.namePrefix + separator + "all", perClient: make([]string, n)}
	for i := range c.perClient {
		c.perClient[i] = fmt.Sprint(t.namePrefix, separator, "to", separator, i)
	}
	return c
}

// subscription returns the channel to which client i subscribes.
func (c *channels) subscription(i int) string {
	if c.direct {
		return c.perClient[i]
	}
	return c.broadcast
}
