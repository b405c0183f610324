package hub_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// modelHub is one of the hubs of a sendModel, with its receivers and its sender.
type modelHub struct {
	*testHub
	model     *sendModel
	index     int // of the results of a message
	sender    modelSender
	receivers []*modelReceiver
}

// modelSender sends messages. Those of one lane keep their order.
type modelSender interface {
	// send sends a message, and calls done with the fates, or with nil if there is no report. The
	// call of done can follow the end of send.
	send(m *modelMessage, to []uint64, done func(fates []wire.Fate))
}

// ids returns the ids of receivers by index. A negative index is an id without a client.
func (h *modelHub) ids(receivers []int) (ids []uint64) {
	for _, i := range receivers {
		if i < 0 {
			ids = append(ids, 1<<62)
		} else {
			ids = append(ids, h.receivers[i].id)
		}
	}
	return ids
}

// hubSender sends with Hub.Send.
type hubSender struct{ h *modelHub }

func (s hubSender) send(m *modelMessage, to []uint64, done func([]wire.Fate)) {
	options := &hub.SendOptions{Level: m.level, TTL: m.ttl, ReportTimeout: m.timeout, Overflow: m.overflow}
	report, err := s.h.Send(context.Background(), 77, to, m.body, options)
	switch {
	case err != nil:
		s.h.model.addProblem("%v: %v", m, err)
	case report == nil:
		done(nil)
	default:
		done(report.Fates)
	}
}

// clientSender sends as a client of version 2.
type clientSender struct {
	h      *modelHub
	client *clientV2
	frames chan []byte // to be written

	// mu guards the fields below.
	mu      sync.Mutex
	waiting map[uint64]func([]wire.Fate) // by seq
}

// newClientSender connects a client. Its goroutines end with the connection.
func newClientSender(t *testing.T, h *modelHub) *clientSender {
	s := &clientSender{h: h, client: h.connectV2(t), frames: make(chan []byte, 1<<16), waiting: make(map[uint64]func([]wire.Fate))}
	background(t, s.read)
	background(t, func() error {
		for frame := range s.frames {
			if _, err := s.client.Write(frame); err != nil {
				return fmt.Errorf("the sender: %w", err)
			}
		}
		return nil
	})
	t.Cleanup(func() {
		s.client.Close()
		close(s.frames)
	})
	return s
}

func (s *clientSender) send(m *modelMessage, to []uint64, done func([]wire.Fate)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client.seq++
	options := wire.MakeOptions(m.level, m.overflow).WithReportTimeout(m.timeout)
	s.frames <- wire.AppendSend(nil, s.client.seq, options, uint32(m.ttl/time.Millisecond), to, m.body)
	if m.level == wire.LevelNone {
		done(nil)
		return
	}
	s.waiting[s.client.seq] = done
}

// read reads reports until the connection ends.
func (s *clientSender) read() error {
	for received := uint64(0); ; {
		kind, payload, err := s.client.readFrame()
		if err != nil {
			return nil
		}
		if kind.IsReliable() {
			received++
			s.frames <- wire.AppendAck(nil, received)
		}
		if kind != wire.TypeReport {
			continue
		}
		report, err := wire.ParseReport(payload)
		if err != nil {
			return err
		}
		var fates []wire.Fate
		for _, fate := range report.Fates {
			fates = append(fates, wire.Fate(fate))
		}
		s.mu.Lock()
		done := s.waiting[report.Seq]
		delete(s.waiting, report.Seq)
		s.mu.Unlock()
		if done == nil {
			return fmt.Errorf("an unexpected report of %d", report.Seq)
		}
		done(fates)
	}
}

// receiverKind is how a receiver of the model behaves.
type receiverKind struct {
	version   int       // 0: a Subscription
	verdict   wire.Fate // of its application; 0: none
	withholds bool      // acknowledges nothing; version 2
	maxBody   int       // 0: the limit of the hub; version 2
}

// modelReceiver is a receiver at one hub. It receives all messages while it is not paused.
type modelReceiver struct {
	receiverKind
	hub    *modelHub
	id     uint64
	client *clientV1         // nil: it is a Subscription
	sub    *hub.Subscription // nil: it is a client
	resume chan struct{}     // ends a pause

	// mu guards the fields below.
	mu     sync.Mutex
	cancel context.CancelFunc // of the Receive of a Subscription
	paused bool
	got    []int // indexes of the messages, -1 for those with too small a body
}

// addReceiver connects a receiver, which receives until the end of the test.
func (h *modelHub) addReceiver(t *testing.T, kind receiverKind) {
	r := &modelReceiver{receiverKind: kind, hub: h, resume: make(chan struct{}, 1)}
	switch kind.version {
	case 0:
		r.sub = h.subscribe(t, 0)
		r.id = r.sub.ID()
		background(t, r.runSubscription)
	case 1:
		r.client = h.connect(t).withoutReadBuffer().requestID()
		r.id = r.client.id
		background(t, r.runClient)
	default:
		v2 := handshakeV2(h.connect(t).withoutReadBuffer(), wire.Hello{Version: wire.Version2, MaxBody: uint64(kind.maxBody)})
		r.client, r.id = v2.clientV1, v2.id
		background(t, r.runClient)
	}
	h.receivers = append(h.receivers, r)
	t.Cleanup(r.leave)
}

// pause lets r receive nothing until unpause. No message may be on its way to r.
func (r *modelReceiver) pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = true
	if r.sub != nil {
		r.cancel()
	} else {
		_ = r.client.SetReadDeadline(time.Now())
	}
}

func (r *modelReceiver) unpause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused {
		r.paused = false
		select {
		case r.resume <- struct{}{}:
		default: // the hub has ended it
		}
	}
}

// leave ends r. It can be called more than once.
func (r *modelReceiver) leave() {
	r.unpause()
	switch {
	case r.sub != nil:
		r.sub.Close()
	case r.version == 2:
		_, _ = r.client.Write(wire.AppendBye(nil)) // fails if the hub has closed the connection
	default:
		r.client.Close()
	}
}

// runSubscription receives until the Subscription ends.
func (r *modelReceiver) runSubscription() error {
	for {
		ctx, cancel := context.WithCancel(context.Background())
		r.mu.Lock()
		r.cancel = cancel
		if r.paused {
			cancel()
		}
		r.mu.Unlock()
		m, err := r.sub.Receive(ctx)
		cancel()
		switch {
		case errors.Is(err, context.Canceled):
			<-r.resume
			continue
		case err != nil:
			return nil
		}
		r.record(m.Body)
		switch r.verdict {
		case wire.FateProcessed:
			m.Ack()
		case wire.FateRejected:
			m.Nak()
		}
	}
}

// runClient reads until the connection ends.
func (r *modelReceiver) runClient() error {
	for received := uint64(0); ; {
		kind, payload, err := r.client.readFrame()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			<-r.resume
			_ = r.client.SetReadDeadline(time.Time{})
			continue
		case err != nil:
			r.client.Close()
			return nil
		case kind == wire.TypeRelay:
			r.record(payload)
		case kind == wire.TypeDeliver:
			received++
			if err := r.handleDeliver(payload, received); err != nil {
				return err
			}
		}
	}
}

func (r *modelReceiver) handleDeliver(payload []byte, received uint64) error {
	d, err := wire.ParseDeliver(payload)
	if err != nil {
		return err
	}
	r.record(d.Body)
	var reply []byte
	if !r.withholds {
		reply = wire.AppendAck(reply, received)
	}
	if r.verdict != 0 && d.Flags&wire.DeliverWantVerdict != 0 {
		reply = wire.AppendVerdicts(reply, []wire.Verdict{{Sender: d.Sender, Seq: d.Seq, Fate: r.verdict}})
	}
	_, _ = r.client.Write(reply) // fails if the hub has closed the connection
	return nil
}

// modelBodyHeader is the size of the part of a body that names its message.
const modelBodyHeader = 4

// record records a received body.
func (r *modelReceiver) record(body []byte) {
	index := -1
	if len(body) >= modelBodyHeader {
		index = int(binary.BigEndian.Uint32(body))
		if m := r.hub.model.message(index); m == nil || !bytes.Equal(m.body, body) {
			r.hub.model.addProblem("receiver of hub %d: a damaged message %d of %d bytes", r.hub.index, index, len(body))
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, index)
}

// received returns the indexes of the received messages.
func (r *modelReceiver) received() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}
