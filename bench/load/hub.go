package main

import (
	"context"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// dialTimeout is how long a connection may take, with thousands of others being
	// made at the same time.
	dialTimeout = 20 * time.Second

	// readBufferSize is what the kernel may hold for each client of the hub, in bytes. It
	// is what start_simulation gives to its clients; the documentation of
	// client.Options says why hundreds of clients on one machine should have it.
	readBufferSize = 1 << 20

	// closeTimeout bounds how long closing may wait for what was sent to leave. After a
	// complete run nothing is left.
	closeTimeout = 250 * time.Millisecond
)

// hubDriver is the hub, through package client.
type hubDriver struct {
	addr   string
	token  string
	direct bool
	ids    []uint64 // by client
}

func newHubDriver(t target, n int) driver {
	return &hubDriver{addr: t.addr, token: t.token, direct: t.direct, ids: make([]uint64, n)}
}

// hubConn is one client.
type hubConn struct {
	driver *hubDriver
	self   int
	client *client.Client
	done   chan struct{} // closed when the end of the connection is reported

	to []uint64 // the ids of the receivers; owned by send
}

func (d *hubDriver) connect(i int, cb callbacks) (driverConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	options := &client.Options{Version: 1, CloseTimeout: closeTimeout, ReadBuffer: readBufferSize}
	if d.token != "" {
		options.Version, options.GetToken = wire.Version2, func(context.Context) (string, error) { return d.token, nil }
	}
	if cb.onBody != nil {
		options.OnMessage = func(m client.Message) { cb.onBody(m.Body) }
	}
	c, err := client.Dial(ctx, d.addr, options)
	if err != nil {
		return nil, err
	}
	d.ids[i] = c.ID()
	dc := &hubConn{driver: d, self: i, client: c, done: make(chan struct{})}
	go func() { // ends with the connection; close waits for it
		defer close(dc.done)
		<-c.Done()
		cb.onError(c.Err())
	}()
	return dc, nil
}

// send is one Send, however many the receivers are.
func (dc *hubConn) send(to []int32, body []byte, _ bool) error {
	if dc.driver.direct {
		dc.to = dc.to[:0]
		for _, r := range to {
			dc.to = append(dc.to, dc.driver.ids[r])
		}
	} else if dc.to == nil {
		dc.to = append(dc.to, dc.driver.ids[:dc.self]...)
		dc.to = append(dc.to, dc.driver.ids[dc.self+1:]...)
	}
	return dc.client.Send(context.Background(), dc.to, body)
}

func (dc *hubConn) close() {
	dc.client.Close() // what it could not send is missing at the receiver
	<-dc.done
}

// visitHub needs no question: Dial returns when the hub has told the id.
func visitHub(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	c, err := client.Dial(ctx, addr, &client.Options{Version: 1})
	if err != nil {
		return err
	}
	return c.Close()
}
