package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// ledger records what clients have sent, what hubs have reported, and what clients have received,
// and compares the three. All methods can be called concurrently.
type ledger struct {
	log func(format string, args ...any) // of problems

	// Guarded by mu.
	mu         sync.Mutex
	records    [][]*record             // by sender and number
	lastNumber []map[uint64]lastNumber // by receiver, then by the id of the sender
	sessions   sessions
	windows    []*window
	deliveries int
	pending    int // messages whose report has not come
	problems   []string
	failed     int // number of problems
}

// lastNumber is the last message that a receiver has got of one sender.
type lastNumber struct {
	number int
	seq    uint64
}

// record is one message.
type record struct {
	sent     time.Time
	done     time.Time // of the report or the error; zero: none yet
	level    wire.Level
	overflow wire.Overflow
	ttl      bool
	err      error
	from     *session // of the sender; nil: it had none
	targets  []target
}

// target is one receiver of a message.
type target struct {
	member   int
	session  *session
	id       uint64
	fate     wire.Fate
	received int
	v1       bool // the receiver speaks version 1
	rejects  bool // the receiver rejects the message, if it gets it
}

func newLedger(members int, log func(format string, args ...any)) *ledger {
	l := &ledger{log: log, records: make([][]*record, members), lastNumber: make([]map[uint64]lastNumber, members)}
	l.sessions.init(members)
	for i := range l.lastNumber {
		l.lastNumber[i] = make(map[uint64]lastNumber)
	}
	return l
}

// fail records a problem.
func (l *ledger) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failLocked(format, args...)
}

func (l *ledger) failLocked(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.failed++
	if len(l.problems) < maxProblems {
		l.problems = append(l.problems, text)
		l.log("WRONG: %s", text)
	}
}

// maxProblems is the number of problems that are listed.
const maxProblems = 30

// begin records a message that is about to be sent, and returns its number.
func (l *ledger) begin(sender int, options *client.SendOptions, targets []target) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &record{sent: time.Now(), level: options.Level, overflow: options.Overflow, ttl: options.TTL > 0, from: l.sessions.current[sender], targets: targets}
	l.records[sender] = append(l.records[sender], r)
	if r.level > wire.LevelNone {
		l.pending++
	}
	return len(l.records[sender]) - 1
}

// handleReport records the report of a message, or the error instead of it.
func (l *ledger) handleReport(sender, number int, report *client.Report, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.records[sender][number]
	if !r.done.IsZero() {
		l.failLocked("message %d of client %d has two reports", number, sender)
		return
	}
	r.done, r.err = time.Now(), err
	if r.level > wire.LevelNone {
		l.pending--
	}
	if err != nil || r.level == wire.LevelNone {
		return
	}
	if len(report.Fates) != len(r.targets) {
		l.failLocked("message %d of client %d to %d clients has %d fates", number, sender, len(r.targets), len(report.Fates))
		return
	}
	for i, fate := range report.Fates {
		r.targets[i].fate = fate
	}
}

// handleMessage records that a client has got a message, and reports whether it rejects it.
func (l *ledger) handleMessage(receiver int, m client.Message) (rejects bool) {
	sender, number, err := decodeBody(m.Body)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && (sender >= len(l.records) || number >= len(l.records[sender])) {
		err = errors.New("nobody has sent it")
	}
	if err != nil {
		l.failLocked("client %d has received %d bytes: %v", receiver, len(m.Body), err)
		return false
	}
	l.deliveries++
	r := l.records[sender][number]
	for i := range r.targets {
		t := &r.targets[i]
		if t.member != receiver {
			continue
		}
		if t.received++; t.received > 1 {
			l.failLocked("client %d has received message %d of client %d %d times", receiver, number, sender, t.received)
		}
		l.checkOrder(receiver, sender, number, m)
		return t.rejects
	}
	l.failLocked("client %d has received message %d of client %d, which is not for it", receiver, number, sender)
	return false
}

// checkOrder checks that a message comes after all earlier ones of the same session of its sender.
// A receiver of version 1 does not know the session: what it gets may be out of order if the sender
// has had another session since the older message.
func (l *ledger) checkOrder(receiver, sender, number int, m client.Message) {
	key := m.From
	if key == 0 {
		key = uint64(sender)
	}
	last, known := l.lastNumber[receiver][key]
	if known && number <= last.number && (m.From != 0 || l.sessions.unchanged(sender, l.records[sender][number].sent)) {
		l.failLocked("client %d has received message %d (seq %d) of client %d after message %d (seq %d)", receiver, number, m.Seq, sender, last.number, last.seq)
	}
	l.lastNumber[receiver][key] = lastNumber{max(number, last.number), m.Seq}
}

// pendingReports returns the number of messages whose report has not come.
func (l *ledger) pendingReports() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pending
}

// progress returns the numbers of messages and deliveries.
func (l *ledger) progress() (messages, deliveries int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, records := range l.records {
		messages += len(records)
	}
	return messages, l.deliveries
}
