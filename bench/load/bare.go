package main

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// bareNetwork is two plain sockets. They are connected to a hub and speak its
// frames: that is what the hub alone takes, without package client. Or they are
// connected to a program that copies bytes from each to the other: that is what a
// message takes that nobody looks at.
type bareNetwork struct {
	addr string
	size int
	hub  bool
	ids  [2]uint64 // of a hub
}

func newRawNetwork(t target, _ int) network {
	return &bareNetwork{addr: t.addr, size: t.size, hub: true}
}

func newForwardNetwork(t target, _ int) network { return &bareNetwork{addr: t.addr, size: t.size} }

// bareMember is one socket.
type bareMember struct {
	network *bareNetwork
	self    int
	conn    net.Conn
	done    chan struct{} // closed when nothing more is delivered

	frame []byte // what is written; owned by send
}

func (n *bareNetwork) join(i int, in inbox) (member, error) {
	if i >= len(n.ids) {
		return nil, errors.New("plain sockets are for two clients")
	}
	conn, err := net.DialTimeout("tcp", n.addr, dialTime)
	if err != nil {
		return nil, err
	}
	if n.hub {
		if n.ids[i], err = askID(conn); err != nil {
			conn.Close()
			return nil, err
		}
	}
	m := &bareMember{network: n, self: i, conn: conn, done: make(chan struct{})}
	go m.receive(in) // ends with the connection; close waits for it
	return m, nil
}

// askID asks for the id of a new connection to a hub.
func askID(conn net.Conn) (uint64, error) {
	if err := conn.SetDeadline(time.Now().Add(dialTime)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(wire.AppendIdentityRequest(nil)); err != nil {
		return 0, err
	}
	answer := make([]byte, wire.IdentityLen)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return 0, err
	}
	_, payload := wire.Split(answer)
	id, err := wire.ParseIdentity(payload)
	if err != nil {
		return 0, err
	}
	return id, conn.SetDeadline(time.Time{})
}

// receive reads one body at a time, of the size that all have.
func (m *bareMember) receive(in inbox) {
	defer close(m.done)
	header := 0
	if m.network.hub {
		header = wire.HeaderSize
	}
	frame := make([]byte, header+m.network.size)
	for {
		if _, err := io.ReadFull(m.conn, frame); err != nil {
			in.fail(err)
			return
		}
		in.deliver(frame[header:])
	}
}

// send is one Write to the other one of the two.
func (m *bareMember) send(_ []int32, body []byte, _ bool) error {
	if !m.network.hub {
		_, err := m.conn.Write(body)
		return err
	}
	other := m.network.ids[1-m.self:][:1]
	m.frame = wire.AppendRelay(m.frame[:0], other, body)
	_, err := m.conn.Write(m.frame)
	return err
}

func (m *bareMember) close() {
	m.conn.Close()
	<-m.done
}
