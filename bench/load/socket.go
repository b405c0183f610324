package main

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// socketDriver drives two plain sockets. Connected to a hub, the sockets exchange its frames,
// which measures the hub without package client. Connected to a program that copies bytes from
// one socket to the other, they measure the minimum cost of a message through another process.
type socketDriver struct {
	addr  string
	size  int
	isHub bool
	ids   [2]uint64 // of the clients of a hub
}

func newRawHubDriver(t target, _ int) driver {
	return &socketDriver{addr: t.addr, size: t.size, isHub: true}
}

func newForwardDriver(t target, _ int) driver { return &socketDriver{addr: t.addr, size: t.size} }

// socketConn is one socket.
type socketConn struct {
	driver *socketDriver
	self   int
	conn   net.Conn
	done   chan struct{} // closed when onBody is not called any more

	frame []byte // the frame being written; owned by send
}

func (d *socketDriver) connect(i int, cb callbacks) (driverConn, error) {
	if i >= len(d.ids) {
		return nil, errors.New("plain sockets are for two clients")
	}
	conn, err := net.DialTimeout("tcp", d.addr, dialTimeout)
	if err != nil {
		return nil, err
	}
	if d.isHub {
		if d.ids[i], err = requestID(conn); err != nil {
			conn.Close()
			return nil, err
		}
	}
	dc := &socketConn{driver: d, self: i, conn: conn, done: make(chan struct{})}
	go dc.receive(cb) // ends with the connection; close waits for it
	return dc, nil
}

// requestID requests the id of a new connection to a hub.
func requestID(conn net.Conn) (uint64, error) {
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(wire.AppendIdentityRequest(nil)); err != nil {
		return 0, err
	}
	reply := make([]byte, wire.IdentityLen)
	if _, err := io.ReadFull(conn, reply); err != nil {
		return 0, err
	}
	_, payload := wire.Split(reply)
	id, err := wire.ParseIdentity(payload)
	if err != nil {
		return 0, err
	}
	return id, conn.SetDeadline(time.Time{})
}

// receive reads bodies, which all have the same size.
func (dc *socketConn) receive(cb callbacks) {
	defer close(dc.done)
	header := 0
	if dc.driver.isHub {
		header = wire.HeaderSize
	}
	frame := make([]byte, header+dc.driver.size)
	for {
		if _, err := io.ReadFull(dc.conn, frame); err != nil {
			cb.onError(err)
			return
		}
		cb.onBody(frame[header:])
	}
}

// send writes one message to the other of the two clients.
func (dc *socketConn) send(_ []int32, body []byte, _ bool) error {
	if !dc.driver.isHub {
		_, err := dc.conn.Write(body)
		return err
	}
	other := dc.driver.ids[1-dc.self:][:1]
	dc.frame = wire.AppendRelay(dc.frame[:0], other, body)
	_, err := dc.conn.Write(dc.frame)
	return err
}

func (dc *socketConn) close() {
	dc.conn.Close()
	<-dc.done
}
