package main

import (
	"fmt"
	"maps"
	"slices"
)

// target is the server to drive, and how.
type target struct {
	system          string
	addr            string
	token           string // that clients of a hub show; "": they speak version 1, which shows none
	namePrefix      string // keeps the names of two loads on one server apart
	size            int    // bytes of each body
	direct          bool   // messages name their receivers; otherwise they go to everyone
	libraryDefaults bool   // the client library as it comes
}

// driver is one system as a group of clients sees it. The clients have the
// numbers from 0.
type driver interface {
	// connect connects client number i. When it has returned, everything that others
	// send reaches the inbox: the server has confirmed it. It may be called
	// concurrently, and has been for every client when the first one sends.
	connect(i int, in callbacks) (driverConn, error)
}

// driverConn is a client that has joined. One goroutine sends.
type driverConn interface {
	// send hands body to the clients in to, or to everyone else in a network that
	// is not direct. more says that another message follows at once, so that this
	// one may be kept back to go with it. body may be changed when send has returned.
	send(to []int32, body []byte, more bool) error

	// close leaves. When it has returned, the inbox gets nothing more. It may be
	// called while send is blocked, which it ends.
	close()
}

// callbacks is where what comes for a client goes.
type callbacks struct {
	// onBody takes one body, which it may look at until it returns. It is called
	// by one goroutine at a time. It is nil for a client that expects nothing: such
	// a client does not subscribe.
	onBody func(body []byte)

	// onError takes the reason why nothing more will come.
	onError func(error)
}

// system is what there is to drive.
type system struct {
	newDriver func(t target, clients int) driver
	visit     func(addr string) error // connect, ask for the id, leave; nil where there are no ids

	// echoes says that a client that sends to everyone gets a copy itself. Nobody
	// asked for that copy: it is neither counted nor checked.
	echoes bool
}

var systems = map[string]system{
	"hub":       {newDriver: newHubDriver, visit: visitHub},
	"hub-raw":   {newDriver: newRawHubDriver},
	"forward":   {newDriver: newForwardDriver},
	"nats":      {newDriver: newNATSDriver, visit: visitNATS},
	"redis":     {newDriver: newRedisDriver, visit: visitRedis, echoes: true},
	"mosquitto": {newDriver: newMQTTDriver, visit: visitMQTT, echoes: true},
}

func systemNames() []string { return slices.Sorted(maps.Keys(systems)) }

// findSystem returns the system of that name.
func findSystem(name string) (system, error) {
	s, ok := systems[name]
	if !ok {
		return s, fmt.Errorf("unknown system %q, there are %v", name, systemNames())
	}
	return s, nil
}

// channels is what clients listen to in systems that know subjects, topics or
// channels rather than clients.
type channels struct {
	direct    bool
	broadcast string
	perClient []string // by client
}

// channels returns the names for n clients, made of parts that the separator of
// the system joins.
func (t target) channels(n int, separator string) channels {
	c := channels{direct: t.direct, broadcast: t.namePrefix + separator + "all", perClient: make([]string, n)}
	for i := range c.perClient {
		c.perClient[i] = fmt.Sprint(t.namePrefix, separator, "to", separator, i)
	}
	return c
}

// subscription returns the one channel that client i listens to.
func (c *channels) subscription(i int) string {
	if c.direct {
		return c.perClient[i]
	}
	return c.broadcast
}
