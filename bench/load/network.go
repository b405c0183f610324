package main

import (
	"fmt"
	"maps"
	"slices"
)

// target is the server to drive, and how.
type target struct {
	system   string
	addr     string
	token    string // that clients of a hub show; "": they speak version 1, which shows none
	group    string // keeps the names of two loads on one server apart
	size     int    // bytes of each body
	direct   bool   // messages name their receivers; otherwise they go to everyone
	defaults bool   // the client library as it comes
}

// network is one system as a group of clients sees it. The clients have the
// numbers from 0.
type network interface {
	// join connects client number i. When it has returned, everything that others
	// send reaches the inbox: the server has confirmed it. It may be called
	// concurrently, and has been for every client when the first one sends.
	join(i int, in inbox) (member, error)
}

// member is a client that has joined. One goroutine sends.
type member interface {
	// send hands body to the clients in to, or to everyone else in a network that
	// is not direct. more says that another message follows at once, so that this
	// one may be kept back to go with it. body may be changed when send has returned.
	send(to []int32, body []byte, more bool) error

	// close leaves. When it has returned, the inbox gets nothing more. It may be
	// called while send is blocked, which it ends.
	close()
}

// inbox is where what comes for a client goes.
type inbox struct {
	// deliver takes one body, which it may look at until it returns. It is called
	// by one goroutine at a time. It is nil for a client that expects nothing: such
	// a client does not subscribe.
	deliver func(body []byte)

	// fail takes the reason why nothing more will come.
	fail func(error)
}

// system is what there is to drive.
type system struct {
	network func(t target, clients int) network
	visit   func(addr string) error // connect, ask for the id, leave; nil where there are no ids

	// echoes says that a client that sends to everyone gets a copy itself. Nobody
	// asked for that copy: it is neither counted nor checked.
	echoes bool
}

var systems = map[string]system{
	"hub":       {network: newHubNetwork, visit: visitHub},
	"hub-raw":   {network: newRawNetwork},
	"forward":   {network: newForwardNetwork},
	"nats":      {network: newNATSNetwork, visit: visitNATS},
	"redis":     {network: newRedisNetwork, visit: visitRedis, echoes: true},
	"mosquitto": {network: newMQTTNetwork, visit: visitMQTT, echoes: true},
}

func systemNames() []string { return slices.Sorted(maps.Keys(systems)) }

// find returns the system of that name.
func find(name string) (system, error) {
	s, ok := systems[name]
	if !ok {
		return s, fmt.Errorf("unknown system %q, there are %v", name, systemNames())
	}
	return s, nil
}

// channels is what clients listen to in systems that know subjects, topics or
// channels rather than clients.
type channels struct {
	direct bool
	all    string
	own    []string // by client
}

// channels returns the names for n clients, made of parts that the separator of
// the system joins.
func (t target) channels(n int, separator string) channels {
	c := channels{direct: t.direct, all: t.group + separator + "all", own: make([]string, n)}
	for i := range c.own {
		c.own[i] = fmt.Sprint(t.group, separator, "to", separator, i)
	}
	return c
}

// of returns the one channel that client i listens to.
func (c *channels) of(i int) string {
	if c.direct {
		return c.own[i]
	}
	return c.all
}
