package client

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// hello returns the HELLO for the next connection, without a token, and the position after the
// last frame that was read.
func (s *session) hello() (hello wire.Hello, read position) {
	hello = wire.Hello{Version: wire.Version2, Name: s.options.Name, Confirms: true, Skip: true}
	if !s.maxBodyUnset {
		hello.MaxBody = uint64(s.options.MaxBody)
	}
	if s.resumeSecret != "" {
		hello.ID, hello.Resume = s.id.Load(), s.resumeSecret
		hello.Received, read = s.inbox.detach()
		if s.gotWelcome {
			hello.Read = &read.frames
		}
	}
	s.gotWelcome = false
	return hello, read
}

// awaitID returns when the hub has told the client its id: by WELCOME, which closes welcomeDone,
// or in version 1 by identity.
func (s *session) awaitID(ctx context.Context, welcomeDone <-chan struct{}, identity <-chan uint64) error {
	select {
	case <-welcomeDone:
		return nil
	case id, ok := <-identity:
		select {
		case <-welcomeDone: // WELCOME came before the identity
			return nil
		default:
		}
		switch {
		case !ok:
			return s.life.closedErr()
		case s.options.Version == wire.Version2:
			return fmt.Errorf("%w: the hub speaks version 1 only", ErrVersion)
		}
		s.id.Store(id)
		s.version.Store(1)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// acceptsWelcome reports whether a hub can send w.
func (s *session) acceptsWelcome(w *wire.Welcome) bool {
	switch {
	case w.Version != wire.Version2, w.Credit < 1, w.Window < 1, w.MaxReports < 1, w.MaxBody < 0, w.MaxDeliver < 0, w.Keepalive < 1,
		w.MaxReportTimeout < 0, w.ReceiverCost < 0, w.ReceiverCost > wire.DefaultReceiverCost,
		(w.Resumed || w.KeptID) && (!s.isV2() || w.ID != s.id.Load()):
		return false
	}
	return true
}

// welcomed is the state of a session after WELCOME, before it sends: see session.resume.
type welcomed struct {
	read    position     // after the last frame that was read
	sink    *verdictSink // for verdicts on messages of the connection
	isFirst bool         // this is the first connection of the client
	newHub  bool         // the ids of the last hub are not valid: it is no hub of the same cluster, or has restarted
}

// attach starts a session of version 2 on cn, or resumes one. Messages are not sent before
// resume.
func (s *session) attach(cn *conn, w *wire.Welcome) welcomed {
	newSession, first := !w.Resumed, !s.isV2()
	sameCluster := w.Cluster != "" && w.Cluster == s.cluster
	state := welcomed{isFirst: first, newHub: !first && w.Epoch != s.epoch && !sameCluster}
	if !sameCluster {
		s.repeats.reset(w.Cluster != "")
	}
	state.read = s.inbox.attach(cn, w.Window, newSession)
	if newSession {
		// HELLO has announced this ACK: see wire.Hello.Confirms.
		cn.sendFrame(wire.AppendAck(nil, 0), &forceOptions)
	}
	state.sink = s.verdicts.attach(cn, newSession)
	s.presence.attach(cn, state.newHub)
	s.resumeSecret, s.epoch, s.cluster, s.gotWelcome = w.Resume, w.Epoch, w.Cluster, true
	s.setMaxSendBody(w.MaxBody)
	s.id.Store(w.ID)
	s.version.Store(wire.Version2)
	return state
}

// setMaxSendBody sets the largest body to send, given that of the hub.
func (s *session) setMaxSendBody(limit int) {
	if s.maxBodyUnset {
		s.maxSendBody.Store(int64(min(limit, wire.MaxBodyLimit)))
	} else {
		s.maxSendBody.Store(int64(min(s.options.MaxBody, limit)))
	}
}

// resume sends the unacknowledged and unsent messages, and emits EventResumed,
// EventNewID or EventKeptID.
func (s *session) resume(cn *conn, w *wire.Welcome, state welcomed) error {
	limits := sendLimits{
		credit: w.Credit, receiverCost: cmp.Or(w.ReceiverCost, wire.DefaultReceiverCost), maxReports: w.MaxReports, grantsIDs: w.GrantsIDs,
		maxReportTimeout: time.Duration(min(w.MaxReportTimeout, wire.MaxReportTimeout.Milliseconds())) * time.Millisecond,
	}
	defer s.ackTimer.arm()
	if w.Resumed {
		// First, because acknowledged messages need no probe.
		if err := s.sendQueue.handleAck(w.Acked); err != nil {
			return err
		}
		undeliverable, waiter := s.sendQueue.resume(cn, limits, w.Seq)
		s.conns.set(cn)
		s.emit(Event{Kind: EventResumed})
		if undeliverable != 0 {
			s.failSend(waiter, fmt.Errorf("%w: message %d", ErrUndeliverable, undeliverable))
		}
		return nil
	}
	failed, unconfirmed := s.sendQueue.restart(cn, limits, state.newHub)
	s.conns.set(cn)
	switch {
	case state.isFirst:
	case w.KeptID:
		s.emit(Event{Kind: EventKeptID, Unconfirmed: unconfirmed})
	default:
		s.emit(Event{Kind: EventNewID, Unconfirmed: unconfirmed})
	}
	for _, waiter := range failed {
		waiter.onReport(nil, ErrSessionLost)
	}
	return nil
}
