package client_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// closeTimeout is Options.CloseTimeout of each client. On a slow machine Close can reach it: a
// receiver of messages that are still to be sent can be offline.
const closeTimeout = 5 * time.Second

// modelClient is a client of the model.
type modelClient struct {
	model         *model
	home          *modelHub // of its session
	index         int
	dialer        *flakyDialer
	client        *client.Client
	id            uint64
	v1            bool // speaks version 1
	usesOnMessage bool // has OnMessage, and delays no verdicts
	jobs          chan *modelMessage
	online        chan struct{} // capacity 1: full while dials succeed

	// Owned by the goroutine of the test.
	at      *modelHub // where it connects
	offline bool      // the dialer is down
	closed  bool      // jobs is closed

	// Guarded by model.mu.
	sent       uint64                            // seq of its last message
	due        map[*modelClient][]*modelDelivery // by sender: outstanding messages, in order
	unanswered []receivedMessage                 // received messages without a verdict
	cutAt      int                               // number of the last connection that was cut
	resumedAt  int                               // number of the last connection with a WELCOME
	joinedAt   time.Time
	leaving    bool // is closing
	left       bool
	leftAt     time.Time
	leaveErr   error
}

// dial waits while the client is offline: failed attempts would increase the backoff.
func (mc *modelClient) dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-mc.online:
		defer func() { mc.online <- struct{}{} }()
		return mc.dialer.dial(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// onEvent is Options.OnEvent. The read goroutine calls it.
func (mc *modelClient) onEvent(e client.Event) {
	md := mc.model
	md.mu.Lock()
	defer md.mu.Unlock()
	switch {
	case e.Kind == client.EventResumed && e.ID == mc.id:
		mc.resumedAt = mc.dialer.connections()
	case e.Kind == client.EventDisconnected || e.Kind == client.EventReconnectFailed || e.Kind == client.EventClosed && (mc.leaving || md.ctx.Err() != nil):
	default:
		md.addProblem("client %d: %v as %d, %v", mc.index, e.Kind, e.ID, e.Err)
	}
	md.notify()
}

// connected reports whether mc has a connection that was not cut.
func (mc *modelClient) connected() bool {
	mc.model.mu.Lock()
	defer mc.model.mu.Unlock()
	return mc.resumedAt > mc.cutAt
}

// Called and changed only by the goroutine of the test.
func (mc *modelClient) active() bool        { return !mc.leaving }
func (mc *modelClient) canDisconnect() bool { return mc.active() && !mc.v1 }
func (mc *modelClient) usesReceive() bool   { return mc.active() && !mc.usesOnMessage }

// send sends the messages of mc, one after the other. Send can block.
func (mc *modelClient) send() {
	for msg := range mc.jobs {
		to := msg.expectDelivery()
		var err error
		if msg.options == nil {
			err = mc.client.Send(mc.model.ctx, to, msg.body)
		} else {
			err = mc.client.SendFunc(mc.model.ctx, to, msg.body, msg.options, msg.onReport)
		}
		msg.recordSend(err)
		mc.model.notify()
	}
}

// canceledCtx is a context with which Receive does not wait.
var canceledCtx = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// receive receives at most maxMessages messages that have arrived.
func (mc *modelClient) receive(maxMessages int, verdict wire.Fate) {
	for range maxMessages {
		mc.model.mu.Lock() // reports wait until the messages are recorded
		message, err := mc.client.Receive(canceledCtx)
		if err != nil {
			mc.model.mu.Unlock()
			return
		}
		mc.recordArrival(&message, verdict)
		mc.model.mu.Unlock()
		respond(message, verdict)
	}
}

// onMessage is Options.OnMessage.
func (mc *modelClient) onMessage(message client.Message) {
	verdict := wire.FateProcessed
	if len(message.Body)%2 == 1 {
		verdict = wire.FateRejected
	}
	mc.model.mu.Lock()
	mc.recordArrival(&message, verdict)
	mc.model.mu.Unlock()
	respond(message, verdict)
	mc.model.notify()
}

func respond(message client.Message, verdict wire.Fate) {
	switch verdict {
	case wire.FateProcessed:
		message.Ack()
	case wire.FateRejected:
		message.Nak()
	}
}

// recordArrival checks a received message against the outstanding ones, and records its future
// verdict. It is called with mu held.
func (mc *modelClient) recordArrival(got *client.Message, verdict wire.Fate) {
	md := mc.model
	from := mc.senderIndex(got)
	d := mc.takeExpected(from, got)
	if d == nil {
		md.addProblem("client %d: got message %d of client %d (%d bytes), and outstanding were %q",
			mc.index, got.Seq, from, len(got.Body), mc.dueFrom(from))
		return
	}
	d.arrived++
	d.recordNotSent(0)
	if a := (receivedMessage{*got, d}); verdict == 0 {
		mc.unanswered = append(mc.unanswered, a)
	} else {
		a.setVerdict(verdict)
	}
}

// senderIndex returns the index of the sender of a message. For a v1 receiver only the body
// tells the sender.
func (mc *modelClient) senderIndex(got *client.Message) int {
	if mc.v1 && len(got.Body) >= bodyHeaderLen {
		return int(binary.BigEndian.Uint32(got.Body))
	}
	for from := range mc.due {
		if from.id == got.From {
			return from.index
		}
	}
	return -1
}

// takeExpected removes a received message from the outstanding ones, and those before it that
// may be lost. It returns nil if the message was not outstanding. It is called with mu held.
func (mc *modelClient) takeExpected(from int, got *client.Message) *modelDelivery {
	for sender, row := range mc.due {
		if sender.index != from {
			continue
		}
		for i, d := range row {
			if d.matches(got, mc.v1) {
				if d.arrived+1 == d.copies {
					i++
				}
				mc.due[sender] = row[i:]
				return d
			}
			if !d.mayBeLost() {
				break
			}
		}
	}
	return nil
}

// dueFrom describes the outstanding messages of a sender. It is called with mu held.
func (mc *modelClient) dueFrom(from int) (due []string) {
	for sender, row := range mc.due {
		if sender.index == from {
			for _, d := range row {
				due = append(due, fmt.Sprintf("%v, %d arrived", d, d.arrived))
			}
		}
	}
	return due
}

// answerRemaining gives the verdict "processed" on all messages without one.
func (mc *modelClient) answerRemaining() {
	mc.model.mu.Lock()
	unanswered := mc.unanswered
	mc.unanswered = nil
	for i := range unanswered {
		unanswered[i].setVerdict(wire.FateProcessed)
	}
	mc.model.mu.Unlock()
	for _, arrival := range unanswered {
		arrival.message.Ack()
	}
}

// cut breaks the connection, and records its number.
func (mc *modelClient) cut(reset bool) {
	d := mc.dialer
	d.mu.Lock()
	dials := d.dials
	if reset {
		_ = d.nc.(*net.TCPConn).SetLinger(0)
	}
	d.nc.Close()
	d.mu.Unlock()
	mc.model.mu.Lock()
	mc.cutAt = dials
	mc.model.mu.Unlock()
}

func (mc *modelClient) goOnline() {
	if mc.offline {
		mc.offline = false
		mc.online <- struct{}{}
	}
}

func (mc *modelClient) waitReconnect(t *rapid.T) {
	mc.model.wait(t, func() string {
		if mc.connected() {
			return ""
		}
		return fmt.Sprintf("the reconnect of client %d", mc.index)
	})
}

func (mc *modelClient) leave() {
	md := mc.model
	md.mu.Lock()
	mc.leaving = true
	md.mu.Unlock()
	md.wg.Go(func() { // ends when all is sent, or after Options.CloseTimeout
		begun := time.Now()
		err := mc.client.Close()
		if time.Since(begun) >= closeTimeout { // perhaps without BYE, which keeps the session
			mc.home.Disconnect(mc.id, false)
		}
		md.mu.Lock()
		mc.left, mc.leftAt, mc.leaveErr = true, time.Now(), err
		md.mu.Unlock()
		md.notify()
	})
}
