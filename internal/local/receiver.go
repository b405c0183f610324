// Package local sends and receives messages in the process of the hub, without a connection. A
// Sender is an origin of messages, a Receiver is a destination. Both keep the rules that hold for
// a connection of version 2: bounded memory, order, back-pressure, and true fates.
//
// It does not assign ids and does not know who is connected: the hub does.
//
// On the path of a message, a Sender comes before package relay, like a connection that has read
// a message. A Receiver comes behind an outbox, like a connection that writes.
package local

import (
	"bytes"
	"context"
	"math"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// maxInboxBytes is the size of the inbox, in bytes, at which a Receiver takes no more messages
// from its outbox. A message is taken whole. It is what the kernel holds for a slow connection.
const maxInboxBytes = 64 << 10

// maxUnackedBytes is the size of received messages, in bytes, at which a Receiver acknowledges
// them although more wait in its inbox.
const maxUnackedBytes = 16 << 10

// Message is a message that a Receiver has received.
type Message struct {
	wire.Deliver // Body belongs to the caller of Receive

	size int // of the frame, in bytes
}

// ReceiverConfig holds the settings of Receivers.
type ReceiverConfig struct {
	Outbox outbox.Config // StallTimeout must be above 0

	OnWritten, OnLost func(outbox.Counts) // see outbox.Conn
}

// Receiver receives messages in the process of the hub. Its outbox holds what is not received,
// as for a connection: it blocks senders when it is full, and gives up a Receiver that takes
// nothing while senders wait. All methods can be called concurrently.
type Receiver struct {
	// Static after NewReceiver.
	config *ReceiverConfig

	outbox   outbox.Outbox
	verdicts relay.Verdicts
	arrived  chan struct{} // capacity 1: the inbox has messages
	emptied  chan struct{} // capacity 1: the inbox has become empty
	stopped  chan struct{} // closed by Stop

	ackMu sync.Mutex // held while the outbox is told what was received

	// mu guards the fields below.
	mu         sync.Mutex
	room       sync.Cond // the inbox has room, or the receiver is stopped
	inbox      []Message
	inboxBytes int    // size of the frames in inbox
	received   uint64 // messages that Receive has returned
	unacked    int    // size of those that are not acknowledged, in bytes
	err        error  // why the receiver was stopped; nil: it was not
}

// NewReceiver returns a Receiver. Stop and Close must be called for it.
func NewReceiver(config *ReceiverConfig) *Receiver {
	r := &Receiver{
		config: config, arrived: make(chan struct{}, 1), emptied: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	r.room.L = &r.mu
	r.outbox.Init(receiverConn{r}, &config.Outbox, 0)
	r.outbox.EnableAcks(math.MaxInt, false) // the inbox bounds what is unacknowledged
	return r
}

// Receive returns the next message. It returns the error of ctx, or the error of Stop when the
// inbox is empty. Each message goes to one caller.
func (r *Receiver) Receive(ctx context.Context) (Message, error) {
	for {
		if m, ok, err := r.take(); ok || err != nil {
			return m, err
		}
		select {
		case <-r.arrived:
		case <-r.stopped:
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

// take takes a message from the inbox, and acknowledges what was taken if that is due.
func (r *Receiver) take() (m Message, ok bool, err error) {
	r.mu.Lock()
	if len(r.inbox) == 0 {
		defer r.mu.Unlock()
		return Message{}, false, r.err
	}
	m = r.inbox[0]
	r.inbox[0] = Message{}
	r.inbox = r.inbox[1:]
	wasFull := r.inboxBytes >= maxInboxBytes
	r.inboxBytes -= m.size
	r.received++
	r.unacked += m.size
	if wasFull && r.inboxBytes < maxInboxBytes {
		r.room.Broadcast()
	}
	empty := len(r.inbox) == 0
	if empty {
		r.inbox = nil
	}
	due := empty || r.unacked >= maxUnackedBytes || m.Flags&wire.DeliverWantAck != 0
	if due {
		r.unacked = 0
	}
	r.mu.Unlock()
	if empty {
		notify(r.emptied)
	} else {
		notify(r.arrived) // for another caller of Receive
	}
	if due {
		r.acknowledge()
	}
	return m, true, nil
}

// acknowledge tells the outbox which messages were received.
func (r *Receiver) acknowledge() {
	r.ackMu.Lock()
	defer r.ackMu.Unlock()
	r.mu.Lock()
	n := r.received
	r.mu.Unlock()
	r.outbox.Acknowledge(n)
}

// Verdict passes on what the application says of a message: wire.FateProcessed or
// wire.FateRejected.
func (r *Receiver) Verdict(sender, seq uint64, fate wire.Fate) {
	r.verdicts.Apply(wire.Verdict{Sender: sender, Seq: seq, Fate: fate})
}

// Progress returns how far the outbox has come.
func (r *Receiver) Progress() outbox.Progress { return r.outbox.Progress() }

// AckStats returns a snapshot of the messages that are not received.
func (r *Receiver) AckStats() outbox.AckStats { return r.outbox.AckStats() }

// DropUnacked drops the memory of messages that are in the inbox, which has copies of them.
func (r *Receiver) DropUnacked() { r.outbox.DropUnacked() }

// Accounts appends the accounts that are charged for queued messages.
func (r *Receiver) Accounts(to []*body.Account) []*body.Account { return r.outbox.Accounts(to) }

// Stopped returns a channel that Stop closes.
func (r *Receiver) Stopped() <-chan struct{} { return r.stopped }

// Err returns the error of Stop, and nil before.
func (r *Receiver) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Drain waits until all messages that were offered are received. It returns early when stop is
// closed, or the receiver is stopped: it stops a receiver that receives nothing for the stall
// timeout. No more messages must be offered.
func (r *Receiver) Drain(stop <-chan struct{}) {
	r.outbox.Drain(stop)
	for {
		r.mu.Lock()
		done, received := len(r.inbox) == 0 || r.err != nil, r.received
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-r.emptied:
		case <-r.stopped:
		case <-stop:
			return
		case <-time.After(r.config.Outbox.StallTimeout):
			r.stopIfStalled(received)
		}
	}
}

// stopIfStalled stops the receiver if it has received no more messages than the given number.
func (r *Receiver) stopIfStalled(received uint64) {
	r.mu.Lock()
	stalled := r.received == received
	r.mu.Unlock()
	if stalled {
		r.Stop(outbox.ErrStalled)
	}
}

// Stop ends the receiving: Receive returns err. Only the first call counts. Stop does not wait:
// Close must follow.
func (r *Receiver) Stop(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	r.err, r.inbox, r.inboxBytes = err, nil, 0
	r.room.Broadcast()
	close(r.stopped)
}

// Close drops what is not received, and decides the fates that depend on the receiver, which must
// be stopped. When Close returns, no goroutine of the receiver runs.
func (r *Receiver) Close() {
	r.outbox.Close()
	r.outbox.Wait()
	r.verdicts.Fail()
}

// Version implements relay.Destination.
func (r *Receiver) Version() int { return wire.Version2 }

// Offer implements relay.Destination.
func (r *Receiver) Offer(batch *outbox.Batch, fl *outbox.Flusher) outbox.Outcome {
	return r.outbox.Offer(batch, fl)
}

// Retract implements relay.Destination.
func (r *Receiver) Retract(options *outbox.Options) (stillQueued bool) {
	return r.outbox.Retract(options)
}

// Verdicts implements relay.Destination.
func (r *Receiver) Verdicts() *relay.Verdicts { return &r.verdicts }

// notify wakes a goroutine that waits for c, which has capacity 1.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// receiverConn is a Receiver as its outbox sees it: what the outbox writes goes to the inbox.
type receiverConn struct{ *Receiver }

// Write implements outbox.Conn. It takes whole frames.
func (r receiverConn) Write(v [][]byte, wait bool) (n, pending int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for wait && r.err == nil && r.inboxBytes >= maxInboxBytes {
		r.room.Wait()
	}
	if r.err != nil {
		return 0, 0, r.err
	}
	for _, frames := range v {
		n += r.push(frames)
	}
	if n > 0 {
		notify(r.arrived)
	}
	return n, 0, nil
}

// push copies frames to the inbox, while it has room, and returns their size. The bodies of small
// messages share memory. It is called with mu held.
func (r receiverConn) push(frames []byte) (size int) {
	for frame := range wire.Frames(frames) {
		if r.inboxBytes+size >= maxInboxBytes {
			break
		}
		size += len(frame)
	}
	for frame := range wire.Frames(bytes.Clone(frames[:size])) {
		_, payload := wire.Split(frame)
		d, _ := wire.ParseDeliver(payload) // encoded by this hub
		d.Body = d.Body[:len(d.Body):len(d.Body)]
		r.inbox = append(r.inbox, Message{Deliver: d, size: len(frame)})
	}
	r.inboxBytes += size
	return size
}

// OnWritten implements outbox.Conn.
func (r receiverConn) OnWritten(written outbox.Counts) { r.config.OnWritten(written) }

// OnLost implements outbox.Conn.
func (r receiverConn) OnLost(lost outbox.Counts) { r.config.OnLost(lost) }

// OnWriteError implements outbox.Conn. The outbox is stalled, or the receiver is stopped.
func (r receiverConn) OnWriteError(err error) { r.Stop(err) }
