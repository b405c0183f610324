package main

import (
	"context"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// dialTimeout is the maximum duration of a connect while thousands of other clients connect.
	dialTimeout = 20 * time.Second

	// readBufferSize is the size of the kernel's receive buffer for each client of the hub, in
	// bytes. start_simulation uses the same size; the documentation of client.Options explains
	// why hundreds of clients on one machine need it.
	readBufferSize = 1 << 20

	// closeTimeout is how long Close can wait for pending writes. After a complete run there are
	// none.
	closeTimeout = 250 * time.Millisecond
)

// hubDriver drives the hub through package client.
type hubDriver struct {
	target
	version int
	ids     []uint64 // client ids, by index
}

// newHubDriver returns a driver whose clients use version 1, unless they have a token.
func newHubDriver(t target, n int) driver {
	if t.token != "" {
		return newHub2Driver(t, n)
	}
	return &hubDriver{t, 1, make([]uint64, n)}
}

// newHub2Driver returns a driver whose clients use version 2.
func newHub2Driver(t target, n int) driver {
	return &hubDriver{t, wire.Version2, make([]uint64, n)}
}

// hubConn is one client of the hub.
type hubConn struct {
	driver *hubDriver
	self   int
	client *client.Client
	done   chan struct{} // closed after onError has returned

	to []uint64 // the ids of the receivers; owned by send
}

func (d *hubDriver) connect(i int, cb callbacks) (driverConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	options := &client.Options{Version: d.version, CloseTimeout: closeTimeout, ReadBuffer: readBufferSize}
	if d.token != "" {
		options.GetToken = func(context.Context) (string, error) { return d.token, nil }
	}
	if cb.onBody != nil {
		options.OnMessage = func(m client.Message) { cb.onBody(m.Body) }
	}
	c, err := client.Dial(ctx, d.addrOf(i), options)
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

// send calls Send once, for any number of receivers.
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
	dc.client.Close() // unsent messages are missing at the receiver
	<-dc.done
}

// visitHub connects and closes. It needs no id request, because Dial returns after the hub has
// sent the id.
func visitHub(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	c, err := client.Dial(ctx, addr, &client.Options{Version: 1})
	if err != nil {
		return err
	}
	return c.Close()
}
