package simulation

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// cacheLine is the padding in bytes that keeps fields written by one goroutine off the cache
// lines that others read. It is two lines, because processors fetch lines in pairs.
const cacheLine = 128

// sender sends the messages of one client.
//
// A sender is an open loop: message k is due at start + k·interval, regardless of earlier
// messages. When Send blocks, the sender lags and then catches up without a pause, and the lag
// counts as latency. With an interval of 0 there is no schedule, and a message is due when its
// Send begins.
type sender struct {
	// Static after newRun.
	index    int
	client   *client.Client
	to       []uint64 // ids of all other clients
	messages uint32
	interval time.Duration
	pattern  *pattern
	reports  *reportChecker // nil when no reports are requested
	level    wire.Level

	// Owned by send, and by the report after it.
	started  bool
	firstDue time.Duration // when message 0 was due, since the epoch

	_        [cacheLine]byte
	accepted atomic.Uint32 // messages that Send accepted; written by send, read by run.sampleProgress
	_        [cacheLine]byte
}

// send sends all messages; the first is due at start after epoch. It returns early, with the
// reason, when ctx ends or when the connection is lost.
func (s *sender) send(ctx context.Context, epoch time.Time, start time.Duration) error {
	body := make([]byte, s.pattern.size)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for number := range s.messages {
		due := start + time.Duration(number)*s.interval
		now := time.Since(epoch)
		if s.interval == 0 {
			due = now
		} else if err := sleep(ctx, timer, due-now); err != nil {
			return err
		}
		if number == 0 {
			s.started, s.firstDue = true, due
		}
		s.pattern.fill(body, newHeader(s.index, number, due))
		if err := s.sendMessage(ctx, number, due, body); err != nil {
			return fmt.Errorf("client %d (id %d) cannot send message %d: %w", s.index, s.client.ID(), number, err)
		}
		s.accepted.Store(number + 1)
	}
	return nil
}

// sendMessage sends one message, with a callback for its report if reports are requested.
func (s *sender) sendMessage(ctx context.Context, number uint32, due time.Duration, body []byte) error {
	if s.reports == nil {
		return s.client.Send(ctx, s.to, body)
	}
	options := client.SendOptions{Level: s.level}
	return s.client.SendFunc(ctx, s.to, body, &options, s.reports.onReport(number, due))
}

// sleep waits for d. It returns early, with the error of ctx, when ctx ends.
func sleep(ctx context.Context, timer *time.Timer, d time.Duration) error {
	if d <= 0 {
		return nil // Send checks ctx
	}
	timer.Reset(d)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
