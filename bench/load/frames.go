package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/bench/webclient"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// framesBuffer is the minimum size of the buffers of a framesConn, in bytes, and the size from
	// which it does not delay messages.
	framesBuffer = 64 << 10

	// framesAckDelay is the time after which a framesConn acknowledges what it has read, as package
	// client does. It looks at the time after each read.
	framesAckDelay = 50 * time.Millisecond

	// maxGreeting is the maximum size of a frame before the first message, in bytes.
	maxGreeting = 4096
)

// framesDriver drives the hub by frames of version 2, without package client. Clients over TCP and
// over WebSocket do the same work besides the WebSocket frames, and take little processor time from
// the hub.
type framesDriver struct {
	target target
	usesWS func(callbacks) bool // tells which clients connect by WebSocket
	ids    []uint64             // client ids, by index
}

func newFramesTCPDriver(t target, n int) driver {
	return &framesDriver{t, func(callbacks) bool { return false }, make([]uint64, n)}
}

func newFramesWSDriver(t target, n int) driver {
	return &framesDriver{t, func(callbacks) bool { return true }, make([]uint64, n)}
}

// newFramesWSReceiversDriver returns a driver whose clients that expect messages connect by
// WebSocket, and the others by TCP.
func newFramesWSReceiversDriver(t target, n int) driver {
	return &framesDriver{t, func(cb callbacks) bool { return cb.onBody != nil }, make([]uint64, n)}
}

// framesConn is one client of the hub.
type framesConn struct {
	driver *framesDriver
	self   int

	// Static after connect.
	conn    net.Conn
	welcome wire.Welcome
	done    chan struct{} // closed when the callbacks are not called any more

	// Owned by send.
	to  []uint64 // the ids of the receivers
	out []byte   // SENDs that are not written
	seq uint64   // of the last SEND

	// Owned by receive.
	frames  uint64    // messages, which are all reliable frames
	unacked int       // bytes of those that are not acknowledged
	ackedAt time.Time // when messages were acknowledged

	mu     sync.Mutex
	change sync.Cond // of the following
	acked  uint64    // the SENDs up to this seq are acknowledged
	ended  bool      // no further ACK will arrive
}

func (d *framesDriver) connect(i int, cb callbacks) (driverConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	conn, err := d.dial(ctx, d.usesWS(cb))
	if err != nil {
		return nil, err
	}
	fc := &framesConn{driver: d, self: i, conn: conn, done: make(chan struct{})}
	fc.change.L = &fc.mu
	if fc.welcome, err = greet(conn); err != nil {
		conn.Close()
		return nil, err
	}
	d.ids[i] = fc.welcome.ID
	go fc.receive(cb) // ends with the connection; close waits for it
	return fc, nil
}

// dial returns a new connection, whose receive buffer is that of other clients of the hub.
func (d *framesDriver) dial(ctx context.Context, webSocket bool) (net.Conn, error) {
	if webSocket {
		c, err := webclient.Dial(ctx, d.target.webAddr, wire.WebPath, wire.Subprotocol, framesBuffer)
		if err != nil {
			return nil, err
		}
		return c, c.Conn.(*net.TCPConn).SetReadBuffer(readBufferSize)
	}
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", d.target.addr)
	if err != nil {
		return nil, err
	}
	return c, c.(*net.TCPConn).SetReadBuffer(readBufferSize)
}

// greet sends HELLO, and ACK after the WELCOME that it returns.
func greet(conn net.Conn) (w wire.Welcome, err error) {
	hello := wire.Hello{Version: wire.Version2, Confirms: true, Skip: true}
	if _, err := conn.Write(wire.AppendHello(nil, &hello)); err != nil {
		return w, err
	}
	header := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(conn, header); err != nil {
		return w, err
	}
	size, err := wire.Size(header, maxGreeting)
	if err != nil {
		return w, err
	}
	payload := make([]byte, size-len(header))
	if _, err := io.ReadFull(conn, payload); err != nil {
		return w, err
	}
	if t, _ := wire.Split(header); t != wire.TypeWelcome {
		return w, fmt.Errorf("the answer to HELLO has type %d", t)
	}
	if w, err = wire.ParseWelcome(payload); err != nil {
		return w, err
	}
	_, err = conn.Write(wire.AppendAck(nil, 0))
	return w, err
}

// receive handles frames until the connection ends.
func (fc *framesConn) receive(cb callbacks) {
	defer close(fc.done)
	err := fc.readFrames(cb)
	fc.mu.Lock()
	fc.ended = true
	fc.mu.Unlock()
	fc.change.Broadcast()
	cb.onError(err)
}

// readFrames reads and handles frames. All whole frames are handled at once, therefore the buffer
// begins with a frame.
func (fc *framesConn) readFrames(cb callbacks) error {
	buffer := make([]byte, max(framesBuffer, wire.DeliverLen(fc.driver.target.size)))
	for have := 0; ; {
		n, err := fc.conn.Read(buffer[have:])
		if err != nil {
			return err
		}
		have += n
		whole := 0
		for frame := range wire.Frames(buffer[:have]) {
			whole += len(frame)
			if err := fc.handleFrame(frame, cb); err != nil {
				return err
			}
		}
		have = copy(buffer, buffer[whole:have])
		if have == len(buffer) {
			return errors.New("a frame is longer than that of a message")
		}
		if fc.unacked > 0 && (fc.unacked >= fc.welcome.Window/2 || time.Since(fc.ackedAt) > framesAckDelay) {
			if err := fc.ack(nil); err != nil {
				return err
			}
		}
	}
}

// ack acknowledges all messages, and sends what is in behind after that.
func (fc *framesConn) ack(behind []byte) error {
	fc.unacked, fc.ackedAt = 0, time.Now()
	_, err := fc.conn.Write(append(wire.AppendAck(nil, fc.frames), behind...))
	return err
}

// handleFrame handles one frame of the hub.
func (fc *framesConn) handleFrame(frame []byte, cb callbacks) error {
	switch t, payload := wire.Split(frame); t {
	case wire.TypeDeliver:
		if cb.onBody == nil {
			return errors.New("a message for a client that expects none")
		}
		fc.frames++
		fc.unacked += len(frame)
		cb.onBody(payload[wire.DeliverHeaderLen-wire.HeaderSize:])
	case wire.TypeAck:
		seq, err := wire.ParseUint64(payload)
		if err != nil {
			return err
		}
		fc.mu.Lock()
		fc.acked = seq
		fc.mu.Unlock()
		fc.change.Signal()
	case wire.TypePing:
		opaque, err := wire.ParseUint64(payload)
		if err != nil {
			return err
		}
		return fc.ack(wire.AppendPong(nil, opaque))
	case wire.TypePong:
	default:
		return fmt.Errorf("the hub sent a frame of type %d: %q", t, payload)
	}
	return nil
}

// send sends one SEND to all receivers, when the credit permits it. It writes several SENDs at once
// if more follow.
func (fc *framesConn) send(to []int32, body []byte, more bool) error {
	ids := fc.receivers(to)
	if err := fc.awaitCredit(wire.SendCost(len(ids), len(body), fc.welcome.ReceiverCost)); err != nil {
		return err
	}
	fc.seq++
	fc.out = wire.AppendSend(fc.out, fc.seq, 0, 0, ids, body)
	if more && len(fc.out) < framesBuffer {
		return nil
	}
	return fc.flush()
}

// receivers returns the ids of the clients in to, or of all other clients.
func (fc *framesConn) receivers(to []int32) []uint64 {
	ids := fc.driver.ids
	if fc.driver.target.direct {
		fc.to = fc.to[:0]
		for _, r := range to {
			fc.to = append(fc.to, ids[r])
		}
	} else if fc.to == nil {
		fc.to = append(append(fc.to, ids[:fc.self]...), ids[fc.self+1:]...)
	}
	return fc.to
}

// awaitCredit waits until a SEND fits into the credit. All SENDs cost the same. Once the credit is
// used up, it waits for half of it: the hub then gets several SENDs at once (rule S8).
func (fc *framesConn) awaitCredit(cost int) error {
	fc.mu.Lock()
	defer fc.mu.Unlock()
	unacked := func() int { return int(fc.seq-fc.acked) * cost }
	if fc.fits(unacked(), cost, fc.welcome.Credit) {
		return nil
	}
	for pinged := false; !fc.ended && !fc.fits(unacked(), cost, fc.welcome.Credit/2); {
		if !pinged && unacked() < fc.welcome.Credit/4 { // no ACK comes by itself (rule S7)
			pinged = true
			fc.out = wire.AppendPing(fc.out, 0)
		}
		if len(fc.out) == 0 {
			fc.change.Wait()
			continue
		}
		fc.mu.Unlock()
		err := fc.flush()
		fc.mu.Lock()
		if err != nil {
			return err
		}
	}
	if fc.ended {
		return net.ErrClosed
	}
	return nil
}

// fits reports whether a SEND of cost bytes fits into credit beside unacked bytes. The first one
// always does.
func (fc *framesConn) fits(unacked, cost, credit int) bool {
	return unacked == 0 || unacked+cost <= credit
}

func (fc *framesConn) flush() error {
	_, err := fc.conn.Write(fc.out)
	fc.out = fc.out[:0]
	return err
}

func (fc *framesConn) close() {
	fc.conn.Close()
	<-fc.done
}
