package client_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// modelMessage is one Send.
type modelMessage struct {
	from       *modelClient
	to         []*modelClient // nil: an id without a client
	body       []byte
	options    *client.SendOptions // nil: without a report
	deliveries map[*modelClient]*modelDelivery

	// Guarded by model.mu.
	seq      uint64
	accepted bool // Send has returned nil
	failed   bool // Send has failed
	reports  int  // calls of onReport
}

// modelDelivery is a message for one receiver, possibly in several copies. It is guarded by
// model.mu.
type modelDelivery struct {
	message          *modelMessage
	copies           int
	arrived          int
	reportedReceived int       // copies that were reported as received
	notSent          int       // copies that were reported as not sent
	uncertain        int       // copies that expired with an uncertain fate: they may arrive
	verdict          wire.Fate // of the receiver; 0: none yet
}

// receivedMessage is a message that a client has received.
type receivedMessage struct {
	message  client.Message
	delivery *modelDelivery
}

// newModelMessage returns a message without a body.
func newModelMessage(from *modelClient, to []*modelClient, options *client.SendOptions) *modelMessage {
	msg := &modelMessage{from: from, to: to, options: options, deliveries: make(map[*modelClient]*modelDelivery)}
	for _, mc := range to {
		if mc == nil {
			continue
		}
		if msg.deliveries[mc] == nil {
			msg.deliveries[mc] = &modelDelivery{message: msg}
		}
		msg.deliveries[mc].copies++
	}
	return msg
}

// bodyHeaderLen is the number of bytes of a body that identify the message, for v1 receivers.
const bodyHeaderLen = 8

// makeBody returns a body that no other message has, if size is large enough.
func makeBody(from, number, size int) []byte {
	random := rand.New(rand.NewPCG(uint64(from), uint64(number)))
	b := make([]byte, 0, size+8)
	b = binary.BigEndian.AppendUint32(b, uint32(from))
	b = binary.BigEndian.AppendUint32(b, uint32(number))
	for len(b) < size {
		b = binary.BigEndian.AppendUint64(b, random.Uint64())
	}
	return b[:size]
}

// expectDelivery adds the message to the outstanding messages of its receivers, and returns
// their ids.
func (msg *modelMessage) expectDelivery() (to []uint64) {
	md := msg.from.model
	md.mu.Lock()
	defer md.mu.Unlock()
	if !msg.from.v1 {
		msg.from.sent++
		msg.seq = msg.from.sent
	}
	for i, mc := range msg.to {
		if mc == nil {
			to = append(to, md.hubs[i%len(md.hubs)].unknownID(i))
		} else {
			to = append(to, mc.id)
		}
	}
	for mc, d := range msg.deliveries {
		mc.due[msg.from] = append(mc.due[msg.from], d)
	}
	return to
}

// recordSend records the result of Send. If Send has failed, no copy can arrive.
func (msg *modelMessage) recordSend(err error) {
	md := msg.from.model
	md.mu.Lock()
	defer md.mu.Unlock()
	if err == nil {
		msg.accepted = true
		return
	}
	if !msg.from.leaving || !errors.Is(err, client.ErrClosed) {
		md.addProblem("client %d: Send: %v", msg.from.index, err)
	}
	msg.failed = true
	msg.from.sent--
	for _, d := range msg.deliveries {
		d.recordNotSent(d.copies)
	}
}

// onReport checks the report of the message.
func (msg *modelMessage) onReport(r *client.Report, err error) {
	md := msg.from.model
	md.mu.Lock()
	defer md.mu.Unlock()
	defer md.notify()
	msg.reports++
	switch {
	case msg.reports > 1:
		md.addProblem("client %d: message %d is reported %d times", msg.from.index, msg.seq, msg.reports)
	case err != nil:
		if !msg.from.leaving || !errors.Is(err, client.ErrClosed) {
			md.addProblem("client %d: message %d: %v", msg.from.index, msg.seq, err)
		}
	case r.Seq != msg.seq || len(r.Fates) != len(msg.to):
		md.addProblem("client %d: message %d to %d: report %+v", msg.from.index, msg.seq, len(msg.to), r)
	default:
		for i, fate := range r.Fates {
			msg.checkFate(msg.to[i], fate)
		}
	}
}

// checkFate checks that a fate is true at this moment. It is called with mu held.
func (msg *modelMessage) checkFate(to *modelClient, fate wire.Fate) {
	md := msg.from.model
	timed := msg.options.TTL > 0
	if to == nil {
		// Expired before the receivers were looked up.
		if fate != wire.FateUnknown && !(timed && fate == wire.FateExpired) {
			md.addProblem("client %d: message %d: an unknown receiver is %v", msg.from.index, msg.seq, fate)
		}
		return
	}
	d := msg.deliveries[to]
	ok := false
	switch fate {
	case wire.FateQueued, wire.FateExpired:
		ok = timed
	case wire.FateWritten:
		ok = timed || to.v1 || msg.options.Level == wire.LevelWritten
	case wire.FateReceived:
		d.reportedReceived++
		ok = !to.v1 && d.reportedReceived <= d.arrived && (timed || msg.options.Level == wire.LevelReceived)
	case wire.FateProcessed, wire.FateRejected:
		ok = fate == d.verdict && msg.options.Level == wire.LevelProcessed
	case wire.FateUncertain:
		ok = to.leaving || timed
	case wire.FateUnknown, wire.FateGone:
		ok = to.leaving
	case wire.FateFull:
		ok = msg.options.Overflow != wire.OverflowBlock
	}
	if !ok {
		md.addProblem("client %d: %v has arrived %d times, and is reported as %v", to.index, d, d.arrived, fate)
	}
	switch {
	// The message is not written again.
	case fate == wire.FateQueued, timed && !to.v1 && (fate == wire.FateWritten || fate == wire.FateUncertain):
		d.uncertain++
	}
	switch fate {
	case wire.FateExpired, wire.FateFull, wire.FateUnknown, wire.FateGone:
		d.recordNotSent(1)
	}
}

// missing describes what is still open about a message, or returns "". It is called with mu
// held.
func (msg *modelMessage) missing() string {
	switch {
	case msg.failed:
		return ""
	case !msg.accepted:
		return fmt.Sprintf("a Send of client %d", msg.from.index)
	case msg.options != nil && msg.reports == 0:
		return fmt.Sprintf("the report of message %d of client %d", msg.seq, msg.from.index)
	}
	for to, d := range msg.deliveries {
		// Whether the remaining receivers get the message is unknown then.
		unknown := msg.from.leaving && (msg.from.leaveErr != nil || d.mayBeLost())
		if !to.leaving && !unknown && d.arrived+d.notSent+d.uncertain < d.copies {
			return fmt.Sprintf("%v at client %d", d, to.index)
		}
	}
	return ""
}

// String identifies the message and its receiver.
func (d *modelDelivery) String() string {
	return fmt.Sprintf("message %d of client %d (%d bytes, %d copies, %+v)",
		d.message.seq, d.message.from.index, len(d.message.body), d.copies, d.message.options)
}

// mayBeLost reports whether the options of the message allow its loss.
func (d *modelDelivery) mayBeLost() bool {
	o := d.message.options
	return d.message.failed || o != nil && (o.TTL > 0 || o.Overflow != wire.OverflowBlock)
}

// matches reports whether got is a copy of d.
func (d *modelDelivery) matches(got *client.Message, v1 bool) bool {
	id, seq := d.message.from.id, d.message.seq
	if v1 {
		id, seq = 0, 0
	}
	return got.From == id && got.Seq == seq && bytes.Equal(got.Body, d.message.body)
}

// recordNotSent records that copies of a message cannot arrive. It is called with mu held.
func (d *modelDelivery) recordNotSent(copies int) {
	d.notSent += copies
	if d.arrived+d.notSent > d.copies {
		d.message.from.model.addProblem("%v: %d copies have arrived, and %d were not sent", d, d.arrived, d.notSent)
	}
}

// setVerdict records the verdict of the application. It is called with mu held.
func (a *receivedMessage) setVerdict(verdict wire.Fate) {
	if a.delivery.verdict == 0 {
		a.delivery.verdict = verdict
	}
}
