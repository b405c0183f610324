package hub

import (
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/presence"
)

// watcher is a connection of version 2 as presence sees it.
type watcher struct{ *conn }

// SendPresence implements presence.Watcher.
func (w watcher) SendPresence(u *presence.Update) bool {
	// Overhead is exempt from the quota, which a client that sends much can exhaust permanently.
	buffer := w.account.TryAcquireOverhead(u.Len())
	if buffer == nil {
		return false
	}
	b, frames := u.Append(buffer.Bytes()[:0])
	return w.offerAndFlush(&outbox.Batch{Buffer: buffer, To: len(b), Frames: frames, Options: &rejectOptions}) == outbox.Queued
}

// Gone implements presence.Watcher.
func (w watcher) Gone() bool { return w.done.IsSet() || w.v2.Load().attachment.load().hasLeft() }
