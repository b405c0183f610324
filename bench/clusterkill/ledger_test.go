package main

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// testLedger has two clients at hub 0 and one at hub 1, with the ids 100, 101 and 102.
func testLedger(t *testing.T) *ledger {
	t.Helper()
	l := newLedger(3, t.Logf)
	for i, hub := range []int{0, 0, 1} {
		l.beginSession(i, hub, uint64(100+i))
	}
	time.Sleep(time.Minute) // of virtual time
	return l
}

// send records a message of client 0.
func (l *ledger) send(level wire.Level, to ...int) int {
	var targets []target
	for _, member := range to {
		s := l.sessionOf(member)
		targets = append(targets, target{member: member, session: s, id: s.id})
	}
	return l.begin(0, &client.SendOptions{Level: level}, targets)
}

// deliver records that a client receives a message of client 0.
func (l *ledger) deliver(receiver, number int) {
	l.handleMessage(receiver, client.Message{From: 100, Body: newBody(rand.New(rand.NewPCG(1, 1)), 0, number, 200)})
}

func (l *ledger) report(number int, fates ...wire.Fate) {
	l.handleReport(0, number, &client.Report{Fates: fates}, nil)
}

// TestLedger_Verify checks what the ledger finds, and what it does not hold for wrong.
func TestLedger_Verify(t *testing.T) {
	for name, test := range map[string]struct {
		run  func(l *ledger)
		want string // part of the only problem; "": none
	}{
		"received": {func(l *ledger) {
			n := l.send(wire.LevelReceived, 1, 2)
			l.deliver(1, n)
			l.deliver(2, n)
			l.report(n, wire.FateReceived, wire.FateReceived)
		}, ""},
		"received, but it was not": {func(l *ledger) {
			l.openWindow(allHubs, allHubs)
			l.report(l.send(wire.LevelReceived, 1), wire.FateReceived)
		}, "untrue"},
		"unreachable, but it was received": {func(l *ledger) {
			l.openWindow(allHubs, allHubs)
			n := l.send(wire.LevelWritten, 1)
			l.deliver(1, n)
			l.report(n, wire.FateUnreachable)
		}, "untrue"},
		"twice": {func(l *ledger) {
			l.openWindow(allHubs, allHubs)
			n := l.send(wire.LevelNone, 1)
			l.deliver(1, n)
			l.lastNumber[1] = map[uint64]lastNumber{}
			l.deliver(1, n)
		}, "2 times"},
		"out of order": {func(l *ledger) {
			first, second := l.send(wire.LevelNone, 1), l.send(wire.LevelNone, 1)
			l.deliver(1, second)
			l.deliver(1, first)
		}, "after message"},
		"at another client": {func(l *ledger) {
			l.openWindow(allHubs, allHubs)
			l.deliver(2, l.send(wire.LevelNone, 1))
		}, "not for it"},
		"nobody sent it": {func(l *ledger) { l.deliver(1, 7) }, "nobody"},
		"corrupt": {func(l *ledger) {
			l.handleMessage(1, client.Message{Body: make([]byte, 20)})
		}, "corrupt"},
		"no report": {func(l *ledger) {
			l.openWindow(allHubs, allHubs)
			l.send(wire.LevelWritten, 1)
		}, "no report"},
		"two reports": {func(l *ledger) {
			n := l.send(wire.LevelWritten, 1)
			l.deliver(1, n)
			l.report(n, wire.FateWritten)
			l.report(n, wire.FateWritten)
		}, "two reports"},
		"lost without a fault": {func(l *ledger) { l.send(wire.LevelNone, 1) }, "without a fault"},
		"lost with a fault of another hub": {func(l *ledger) {
			l.openWindow(1<<1, 1<<1)
			l.send(wire.LevelNone, 1)
		}, "without a fault"},
		"lost between hubs": {func(l *ledger) {
			l.openWindow(0, 1<<1)
			l.send(wire.LevelNone, 2)
		}, ""},
		"lost long after a fault": {func(l *ledger) {
			l.closeWindow(l.openWindow(1, 1))
			time.Sleep(settleTime + time.Second)
			l.send(wire.LevelNone, 1)
		}, "without a fault"},
		"an error without a fault": {func(l *ledger) {
			l.handleReport(0, l.send(wire.LevelWritten, 1), nil, errors.New("x"))
		}, "without a fault"},
		"uncertain without a fault": {func(l *ledger) {
			l.report(l.send(wire.LevelReceived, 1), wire.FateUncertain)
		}, "without a fault"},
		"pending for a client of a dead hub": {func(l *ledger) {
			l.openWindow(1<<1, 1<<1)
			s := l.sessionOf(2)
			l.killSessions(1)
			time.Sleep(deadline + time.Second)
			n := l.begin(0, &client.SendOptions{Level: wire.LevelWritten}, []target{{member: 2, session: s, id: s.id}})
			l.report(n, wire.FatePending)
		}, "was dead"},
		"disconnected without a fault": {func(l *ledger) { l.breakSession(2, errors.New("x")) }, "without a fault"},
		"disconnected by a fault": {func(l *ledger) {
			l.closeWindow(l.openWindow(1<<1, 0))
			l.breakSession(2, errors.New("x"))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := testLedger(t)
				test.run(l)
				time.Sleep(time.Minute)
				l.verify()
				switch {
				case test.want == "" && l.failed == 0:
				case test.want == "" || l.failed != 1 || !strings.Contains(l.problems[0], test.want):
					t.Errorf("%d problems: %q; want %q", l.failed, l.problems, test.want)
				}
			})
		})
	}
}
