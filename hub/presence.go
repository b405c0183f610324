package hub

import (
	"fmt"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/presence"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// handleListRange answers a LIST_RANGE with a page of the ids of connected clients.
func (rb *readBatch) handleListRange(f *socket.Frame) error {
	r, err := wire.ParseListRange(f.Payload)
	if err != nil {
		return err
	}
	if err := rb.offerBatch(); err != nil {
		return err
	}
	return rb.appendListReply(func(ids []uint64) (n int, frame func([]byte) []byte) {
		page, more := presence.Page(ids, r)
		return wire.ListPageLen(len(page)), func(b []byte) []byte { return wire.AppendListPage(b, uint64(len(ids)), more, page) }
	})
}

// handleWatch handles a WATCH.
func (rb *readBatch) handleWatch(f *socket.Frame) error {
	w, err := wire.ParseWatch(f.Payload)
	if err != nil {
		return err
	}
	if w.On && !rb.conn.canWatch() {
		return rb.sendError(0, wire.ErrorRefused, "watching presence is not permitted")
	}
	registry, maxWatchers := rb.conn.hub.registry, rb.conn.hub.config.MaxWatchers
	switch {
	case !w.On:
		registry.Unwatch(watcher{rb.conn})
	case !registry.Watch(watcher{rb.conn}, w.Since, maxWatchers):
		return rb.sendError(0, wire.ErrorWatchers, fmt.Sprintf("too many presence watchers, the maximum is %d", maxWatchers))
	}
	return nil
}

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
