package main

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/sechlol/go-message-hub/bench/webclient"
)

// chatDriver drives the program bench/chat by plain WebSockets. A message is the body alone.
type chatDriver struct{ target target }

func newChatDriver(t target, _ int) driver { return &chatDriver{t} }

// chatConn is one client of the program.
type chatConn struct {
	driver *chatDriver
	conn   net.Conn
	done   chan struct{} // closed when the callbacks are not called any more
}

// connect returns when the server has sent a message to the client: it is then among the receivers.
func (d *chatDriver) connect(_ int, cb callbacks) (driverConn, error) {
	if d.target.direct {
		return nil, errors.New("chat has no receivers of single messages")
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	c, err := webclient.Dial(ctx, d.target.webAddr, "/", "", framesBuffer)
	if err != nil {
		return nil, err
	}
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(readBufferSize); err != nil {
		c.Close()
		return nil, err
	}
	if _, err := io.ReadFull(c, make([]byte, len("joined"))); err != nil {
		c.Close()
		return nil, err
	}
	cc := &chatConn{driver: d, conn: c, done: make(chan struct{})}
	go cc.receive(cb) // ends with the connection; close waits for it
	return cc, nil
}

// receive reads bodies, which all have the same size.
func (cc *chatConn) receive(cb callbacks) {
	defer close(cc.done)
	body := make([]byte, cc.driver.target.size)
	for {
		if _, err := io.ReadFull(cc.conn, body); err != nil {
			cb.onError(err)
			return
		}
		if cb.onBody != nil {
			cb.onBody(body)
		}
	}
}

// send writes one message. The server sends it to all others.
func (cc *chatConn) send(_ []int32, body []byte, _ bool) error {
	_, err := cc.conn.Write(body)
	return err
}

func (cc *chatConn) close() {
	cc.conn.Close()
	<-cc.done
}
