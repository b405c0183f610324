package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// deadline is how long after the death of a hub nothing may be different from the truth.
const deadline = 6 * time.Second

// verdict is the result of verify.
type verdict struct {
	Messages    int            `json:"messages"`
	Deliveries  int            `json:"deliveries"`
	Fates       map[string]int `json:"fates"`       // of each receiver of a message with a report
	Errors      map[string]int `json:"errors"`      // instead of a report
	Undisturbed int            `json:"undisturbed"` // receivers of a message that no fault can have touched
	Untrue      int            `json:"untrue"`      // fates that are not true
}

// verify compares all fates with what has arrived. Nothing may be under way any more.
func (l *ledger) verify() (v verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v.Fates, v.Errors, v.Deliveries = make(map[string]int), make(map[string]int), l.deliveries
	for sender, records := range l.records {
		v.Messages += len(records)
		for number, r := range records {
			if r.level > wire.LevelNone && r.done.IsZero() {
				l.failLocked("message %d of client %d has no report", number, sender)
				continue
			}
			if r.err != nil {
				v.Errors[errorName(r.err)]++
			}
			for i := range r.targets {
				l.verifyTarget(&v, sender, number, r, &r.targets[i])
			}
		}
	}
	return v
}

// verifyTarget checks what has happened to a message for one receiver. l.mu must be held.
func (l *ledger) verifyTarget(v *verdict, sender, number int, r *record, t *target) {
	text := func() string {
		return fmt.Sprintf("message %d of client %d (hub %d), sent at %s with level %d, overflow policy %d and a time to live (%t), to client %d (hub %d, id %d): %s; received %d times",
			number, sender, hubOf(r.from)+1, r.sent.Format(timeFormat), r.level, r.overflow, r.ttl, t.member, hubOf(t.session)+1, t.id, r.outcome(t), t.received)
	}
	reported := r.level > wire.LevelNone && r.err == nil
	if reported {
		v.Fates[t.fate.String()]++
		if !isTrue(t) {
			v.Untrue++
			l.failLocked("untrue: %s", text())
		}
		if s := t.session; s != nil && !s.killed.IsZero() && r.sent.After(s.killed.Add(deadline)) && !isAbsent(t.fate) && !r.ttl {
			l.failLocked("the hub of the receiver was dead for %v: %s", r.sent.Sub(s.killed).Round(time.Millisecond), text())
		}
	}
	if !l.undisturbed(r, t) {
		return
	}
	v.Undisturbed++
	if !isExpected(r, t, reported) {
		l.failLocked("without a fault: %s", text())
	}
}

// outcome says what the sender was told of a message for one receiver.
func (r *record) outcome(t *target) string {
	switch {
	case r.done.IsZero():
		return "no report"
	case r.err != nil:
		return r.err.Error()
	}
	return fmt.Sprintf("%v after %v", t.fate, r.done.Sub(r.sent).Round(time.Millisecond))
}

// hubOf returns the number of the hub of a session, or -1.
func hubOf(s *session) int {
	if s == nil {
		return -1
	}
	return s.hub
}

// isTrue reports whether the fate of a receiver does not contradict what it has received.
func isTrue(t *target) bool {
	switch t.fate {
	case wire.FateReceived, wire.FateProcessed, wire.FateRejected:
		return t.received == 1
	case wire.FateUnknown, wire.FateGone, wire.FateFull, wire.FateExpired, wire.FateRefused, wire.FateUnreachable, wire.FateTooLarge:
		return t.received == 0
	case wire.FatePending, wire.FateQueued, wire.FateWritten, wire.FateUncertain: // it can still arrive, or not
		return t.received <= 1
	}
	return false
}

// isAbsent reports whether a fate says that the receiver is not there.
func isAbsent(f wire.Fate) bool {
	return f == wire.FateUnknown || f == wire.FateGone || f == wire.FateUnreachable
}

// isExpected reports whether the fate, and what the receiver has got, are what they must be without
// a fault.
func isExpected(r *record, t *target, reported bool) bool {
	full := r.overflow != wire.OverflowBlock
	switch {
	case !reported && r.level > wire.LevelNone:
		return false // an error
	case !reported:
		return t.received == 1 || full
	case t.fate == wire.FateFull:
		return full
	case t.fate == wire.FateExpired, t.fate == wire.FateUncertain && r.ttl:
		return r.ttl
	case t.fate == wire.FateRejected:
		return t.rejects && r.level == wire.LevelProcessed
	case t.fate == wire.FateWritten && t.v1:
		return t.received == 1 // it cannot reach a higher level
	case t.fate <= wire.FateProcessed && !t.fate.Reaches(r.level):
		return r.ttl || r.done.Sub(r.sent) >= reportTimeout
	}
	return t.fate.Reaches(r.level) && t.received == 1
}

// errorName returns a short name of the error of a message.
func errorName(err error) string {
	var refused *client.RefusedError
	switch {
	case errors.Is(err, client.ErrSessionLost):
		return "session lost"
	case errors.Is(err, client.ErrUndeliverable):
		return "undeliverable"
	case errors.As(err, &refused):
		return "refused: " + refused.Reason
	}
	return err.Error()
}
