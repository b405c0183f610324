package relay

import (
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// remoteGrace is how much longer than its own timeouts a Tracker waits for the fates that other
// hubs decide. They use timers of their own, which end at about the same time.
const remoteGrace = time.Second

// startTimer starts the timer of the REPORTs.
func (t *Tracker) startTimer(timeout time.Duration) {
	if t.hasRemote {
		t.reportBy = time.Now().Add(timeout)
	}
	t.relay.config.Timers.Add(1)
	t.mu.Lock() // expire may run before this is over
	t.timer = time.AfterFunc(timeout, t.expire)
	t.mu.Unlock()
}

// expire is called when the report timeout or the time to live is over. If the messages have
// expired, it retracts what is still queued. It reports all undecided fates as they stand, except
// those that other hubs are about to decide.
func (t *Tracker) expire() {
	defer t.relay.config.Timers.Done()
	expired := t.options.Expires != 0 && time.Now().UnixNano() >= t.options.Expires
	offered := int(t.offeredTo.Load()) // the other receivers are not offered expired messages
	var stillQueued indexSet
	if expired {
		stillQueued = t.retract()
	}
	t.mu.Lock()
	t.expired = expired
	awaitsRemote := false
	counts, ready := t.decideUndecided(func(i int, progress wire.Fate) wire.Fate {
		switch {
		case t.remote.has(i):
			awaitsRemote = true
			return undecidedBit
		case expired && i >= offered:
			return wire.FateExpired
		case expired && progress < wire.FateWritten && !stillQueued.has(i):
			return undecidedBit // dropped or written just now: that event follows
		}
		return progress
	})
	if awaitsRemote {
		t.relay.config.Timers.Add(1)
		t.timer = time.AfterFunc(remoteGrace, t.expireRemote)
	}
	t.mu.Unlock()
	t.countFates(&counts)
	t.report(ready)
}

// expireRemote is called when other hubs have not decided fates in time. It reports them as they
// stand. Whether a message that has expired was written before is not known, unless an event has
// said so.
func (t *Tracker) expireRemote() {
	defer t.relay.config.Timers.Done()
	t.mu.Lock()
	counts, ready := t.decideUndecided(func(i int, progress wire.Fate) wire.Fate {
		switch {
		case !t.remote.has(i):
			return undecidedBit // as expire has left it
		case t.expired && progress < wire.FateWritten:
			return wire.FateUncertain
		}
		return progress
	})
	t.mu.Unlock()
	t.countFates(&counts)
	t.report(ready)
}

// retract retracts the messages that have expired, and returns the receivers for which some of
// them are still queued.
func (t *Tracker) retract() (stillQueued indexSet) {
	var remotes []Destination // one call is for all receivers at another hub
	for receiver, dest := range t.dests {
		if dest == nil || !t.hasUndecided(receiver) {
			continue
		}
		if t.remote.has(receiver) {
			if slices.Contains(remotes, dest) {
				continue
			}
			remotes = append(remotes, dest)
		}
		if dest.Retract(&t.options) {
			stillQueued.set(receiver)
		}
	}
	return stillQueued
}

// decideUndecided decides the fates that are undecided. fateOf returns the fate of a message that
// has come so far for one receiver, or undecidedBit: it stays undecided. ready holds the messages
// whose last fate is decided now. mu is held.
func (t *Tracker) decideUndecided(fateOf func(receiver int, progress wire.Fate) wire.Fate) (counts fateCounts, ready []int) {
	for j := range t.messages {
		if t.undecided[j] == 0 {
			continue
		}
		for i := range t.dests {
			f := &t.fates[j*len(t.dests)+i]
			if *f < undecidedBit {
				continue
			}
			fate := fateOf(i, wire.Fate(*f&^undecidedBit))
			if fate == undecidedBit {
				continue
			}
			*f = byte(fate)
			counts[fate]++
			t.undecided[j]--
		}
		if t.undecided[j] == 0 {
			ready = append(ready, j)
		}
	}
	return counts, ready
}

// fateCounts holds a number for each fate.
type fateCounts [wire.MaxFate + 1]int

// countFates counts fates that were decided.
func (t *Tracker) countFates(counts *fateCounts) {
	for fate, n := range counts {
		t.countFate(wire.Fate(fate), n)
	}
}

// hasUndecided reports whether a fate for one receiver is undecided.
func (t *Tracker) hasUndecided(receiver int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := receiver; i < len(t.fates); i += len(t.dests) {
		if t.fates[i] >= undecidedBit {
			return true
		}
	}
	return false
}
