package main

import (
	"context"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// dialTime is how long a connection may take, with thousands of others being
	// made at the same time.
	dialTime = 20 * time.Second

	// readBuffer is what the kernel may hold for each client of the hub, in bytes. It
	// is what start_simulation gives to its clients; the documentation of
	// client.Options says why hundreds of clients on one machine should have it.
	readBuffer = 1 << 20

	// leaveTime bounds how long closing may wait for what was sent to leave. After a
	// complete run nothing is left.
	leaveTime = 250 * time.Millisecond
)

// hubNetwork is the hub, through package client.
type hubNetwork struct {
	addr   string
	token  string
	direct bool
	ids    []uint64 // by client
}

func newHubNetwork(t target, n int) network {
	return &hubNetwork{addr: t.addr, token: t.token, direct: t.direct, ids: make([]uint64, n)}
}

// hubMember is one client.
type hubMember struct {
	network *hubNetwork
	self    int
	client  *client.Client
	done    chan struct{} // closed when the end of the connection is reported

	to []uint64 // the ids of the receivers; owned by send
}

func (n *hubNetwork) join(i int, in inbox) (member, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	options := &client.Options{Version: 1, CloseTimeout: leaveTime, ReadBuffer: readBuffer}
	if n.token != "" {
		options.Version, options.Token = wire.Version2, func(context.Context) (string, error) { return n.token, nil }
	}
	if in.deliver != nil {
		options.OnMessage = func(m client.Message) { in.deliver(m.Body) }
	}
	c, err := client.Dial(ctx, n.addr, options)
	if err != nil {
		return nil, err
	}
	n.ids[i] = c.ID()
	m := &hubMember{network: n, self: i, client: c, done: make(chan struct{})}
	go func() { // ends with the connection; close waits for it
		defer close(m.done)
		<-c.Done()
		in.fail(c.Err())
	}()
	return m, nil
}

// send is one Send, however many the receivers are.
func (m *hubMember) send(to []int32, body []byte, _ bool) error {
	if m.network.direct {
		m.to = m.to[:0]
		for _, r := range to {
			m.to = append(m.to, m.network.ids[r])
		}
	} else if m.to == nil {
		m.to = append(m.to, m.network.ids[:m.self]...)
		m.to = append(m.to, m.network.ids[m.self+1:]...)
	}
	return m.client.Send(context.Background(), m.to, body)
}

func (m *hubMember) close() {
	m.client.Close() // what it could not send is missing at the receiver
	<-m.done
}

// visitHub needs no question: Dial returns when the hub has told the id.
func visitHub(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	c, err := client.Dial(ctx, addr, &client.Options{Version: 1})
	if err != nil {
		return err
	}
	return c.Close()
}
