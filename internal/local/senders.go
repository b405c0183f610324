package local

import (
	"context"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// minSweep is the minimum number of senders at which unused ones are looked for.
const minSweep = 64

// SenderConfig holds the settings of Senders.
type SenderConfig struct {
	Relay      *relay.Relay
	NewAccount func() *body.Account // for the memory of one sender
	Credit     int                  // maximum number of bytes in flight of one sender
	MaxReports int                  // maximum number of pending reports of one sender

	// RequestAcks makes receivers acknowledge, because a message to them waits for memory.
	RequestAcks func(to []uint64)

	// OnSend is called for each message that is sent, with the number of its receivers.
	OnSend func(receivers int)

	Offering  *sync.WaitGroup // counts the Sends that may still offer messages
	Running   *sync.WaitGroup // counts all Sends
	Closing   <-chan struct{} // closed when no further message can be sent
	ErrClosed error           // of a Send after that
}

// Senders sends messages in the process of the hub. All methods can be called concurrently.
type Senders struct {
	config SenderConfig

	// mu guards the fields below.
	mu      sync.Mutex
	byID    map[uint64]*sender
	sweepAt int    // size of byID at which unused senders are looked for
	lastSeq uint64 // largest seq of the senders that were forgotten
	closed  bool
}

// NewSenders returns Senders.
func NewSenders(config SenderConfig) *Senders {
	return &Senders{config: config, byID: make(map[uint64]*sender), sweepAt: minSweep}
}

// Close makes each later Send fail with SenderConfig.ErrClosed.
func (s *Senders) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// Send is a message to send.
type Send struct {
	From    uint64
	To      []uint64 // at most wire.MaxReceivers
	Body    []byte
	Options wire.Options
	Expires int64 // in ns since 1970; 0: never
}

// options returns the options of the message for package relay.
func (m *Send) options() relay.Options {
	return relay.Options{IsSend: true, Wire: m.Options, Expires: m.Expires}
}

func (m *Send) wantsReport() bool { return m.Options.Level() != wire.LevelNone }

// Report is the delivery report of a message.
type Report struct {
	Seq   uint64      // of the message
	Fates []wire.Fate // one per receiver
}

// Send sends a message, and waits for its report if the message requests one; otherwise the
// report has no fates. While the messages of the sender that are in flight, its pending reports,
// or its memory are at their maximum, Send waits until ctx ends. Nothing is sent then. When ctx
// ends later, the message is sent, and Send returns the error of ctx.
func (s *Senders) Send(ctx context.Context, m *Send) (Report, error) {
	o := s.begin(m.From)
	if o == nil {
		return Report{}, s.config.ErrClosed
	}
	defer s.end(o)
	if len(m.To) == 0 {
		s.config.Offering.Done()
		return o.sendToNone(), ctx.Err()
	}
	seq, fates, err := o.send(ctx, m)
	s.config.Offering.Done()
	if err != nil || fates == nil {
		return Report{Seq: seq}, err
	}
	select {
	case f := <-fates:
		return Report{Seq: seq, Fates: f}, nil
	case <-ctx.Done():
		o.abandon(seq)
		return Report{}, ctx.Err()
	}
}

// begin returns the sender with that id, and begins a Send of it. It returns nil after Close.
func (s *Senders) begin(id uint64) *sender {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	o := s.byID[id]
	if o == nil {
		s.sweep()
		o = newSender(&s.config, id, max(s.lastSeq, uint64(time.Now().UnixMicro())))
		s.byID[id] = o
	}
	o.sends++
	s.config.Offering.Add(1)
	s.config.Running.Add(1)
	return o
}

// end ends what begin has begun.
func (s *Senders) end(o *sender) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.sends--
	s.config.Running.Done()
}

// sweep forgets the senders that have nothing under way, once there are many. It is called with
// mu held.
func (s *Senders) sweep() {
	if len(s.byID) < s.sweepAt {
		return
	}
	for id, o := range s.byID {
		if o.sends == 0 && o.unused() {
			s.lastSeq = max(s.lastSeq, o.seq)
			delete(s.byID, id)
		}
	}
	s.sweepAt = max(minSweep, 2*len(s.byID))
}
