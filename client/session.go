package client

import (
	"sync/atomic"

	"github.com/sechlol/go-message-hub/wire"
)

// session is what a client keeps over all its connections to the hub: its identity, the parts
// that outlive a connection, and when it ends.
type session struct {
	// Static after init.
	options      Options
	maxBodyUnset bool       // Options.MaxBody is 0: the hub decides
	endpoints    []endpoint // in the order of attempts; empty: the client cannot reconnect

	life   lifetime
	conns  connSlot
	counts counts

	inbox     inbox
	sendQueue sendQueue     // v2 only
	verdicts  verdicts      // v2 only
	presence  presenceCache // v2 only
	ackTimer  ackTimer      // v2 only

	// Set by the handshake, and read by any goroutine.
	id          atomic.Uint64
	version     atomic.Int32 // of the protocol; 0 until the handshake is done
	maxSendBody atomic.Int64 // largest body to send, in bytes
	connectedTo atomic.Int64 // index of the endpoint

	byeSent atomic.Bool // BYE has been queued

	// Owned by the read goroutine.
	resumeSecret string // from the last WELCOME; "": no session to resume
	epoch        uint64 // of the hub
	cluster      string // of the hub; "": it is alone
	repeats      repeats
	gotWelcome   bool // WELCOME came on the connection of the last HELLO

	// Owned by tick, which runs once at a time.
	sendProbe    probeTimer // for the ACK of sent messages
	verdictProbe probeTimer // for the confirmation of verdicts
}

// init wires the parts.
func (s *session) init(options Options, maxBodyUnset bool, endpoints []endpoint) {
	s.options, s.maxBodyUnset, s.endpoints = options, maxBodyUnset, endpoints
	s.life.init()
	s.conns.init()
	s.inbox.init(options.MaxUnread, s.ackTimer.arm)
	s.sendQueue.init(options.MaxQueued, options.Resend, s.verdicts.probe)
	s.verdicts.init(s.ackTimer.arm)
	s.presence.init()
	s.ackTimer.onTick = s.tick
	s.maxSendBody.Store(int64(options.MaxBody))
}

func (s *session) isV2() bool { return s.version.Load() == wire.Version2 }

// canReconnect reports whether the client reconnects when its connection is lost.
func (s *session) canReconnect() bool {
	return s.isV2() && len(s.endpoints) > 0 && !s.options.NoReconnect
}

// addr returns the address to which the client is, or was last, connected.
func (s *session) addr() string {
	if len(s.endpoints) == 0 {
		return ""
	}
	return s.endpoints[s.connectedTo.Load()].addr
}

// atEndpoint returns err, the error of an attempt to connect to an endpoint, with the address if
// the client has several.
func (s *session) atEndpoint(index int, err error) error {
	if len(s.endpoints) < 2 {
		return err
	}
	return &AddressError{Addr: s.endpoints[index].addr, Err: err}
}

// emit calls Options.OnEvent, unless Close has given up on a callback.
func (s *session) emit(e Event) {
	if s.options.OnEvent != nil && !s.life.callbacksDisabled.Load() {
		e.ID, e.Addr = s.id.Load(), s.addr()
		s.options.OnEvent(e)
	}
}

// failSend reports that a message is not sent, because of err: to waiter, or as an event if waiter
// is nil.
func (s *session) failSend(waiter *call, err error) {
	if waiter != nil {
		waiter.onReport(nil, err)
		return
	}
	s.emit(Event{Kind: EventRefused, Err: err})
}

// tick sends the delayed ACK, and probes the hub if the ACK of sent messages or the
// confirmation of verdicts is overdue. It reports whether another tick is needed.
func (s *session) tick() bool {
	more := s.inbox.tick()
	unacked, removals := s.sendQueue.hasUnacked()
	unconfirmed, confirmed := s.verdicts.hasUnconfirmed()
	probe := s.sendProbe.shouldProbe(unacked, removals)
	probe = s.verdictProbe.shouldProbe(unconfirmed, confirmed) || probe
	if cn := s.conns.current(); cn != nil && probe {
		s.verdicts.probe(cn)
	}
	return more || unacked || unconfirmed
}

// detach removes cn, which has ended, from the session. In version 1 it stays in conns, because
// no other connection follows.
func (s *session) detach(cn *conn) {
	if s.isV2() && s.conns.current() == cn {
		s.conns.set(nil)
	}
	s.sendQueue.detach()
	s.verdicts.detach()
	s.presence.detach()
}

// end ends the client with err. Only the first call counts.
func (s *session) end(err error) {
	if !s.life.end(err) {
		return
	}
	if cn := s.conns.current(); cn != nil {
		cn.sock.Close()
		cn.pending.close(err)
	}
	s.ackTimer.stop()
	s.inbox.close(err)
	s.presence.close(err)
	for _, waiter := range s.sendQueue.close(err) {
		waiter.onReport(nil, err)
	}
	s.life.cancel() // last: after Done is closed nothing can be sent
}
