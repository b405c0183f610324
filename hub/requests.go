package hub

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sechlol/go-message-hub/internal/presence"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// This file handles the requests of a client that the hub answers itself.

// handleIdentity replies in the order of the requests: behind messages that the client has
// sent to itself.
func (rb *readBatch) handleIdentity() error {
	if err := rb.ensureRoom(nil, relay.Options{}, wire.IdentityLen); err != nil {
		return err
	}
	rb.appendReply(func(b []byte) []byte { return wire.AppendIdentity(b, rb.conn.id.Load()) })
	return nil
}

// handleList replies with the ids of the other clients.
func (rb *readBatch) handleList() error {
	// what can wait does so before the list is made
	if rb.builder.HasMessages() || rb.conn.session() != nil {
		if err := rb.offerBatch(); err != nil {
			return err
		}
	}
	return rb.appendListReply(func(ids []uint64) (n int, frame func([]byte) []byte) {
		before, after := split(ids, rb.conn.id.Load())
		return wire.ListLen(len(before) + len(after)), func(b []byte) []byte { return wire.AppendList(b, before, after) }
	})
}

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

// appendListReply appends a reply of n bytes that build makes of the list of clients, as far
// as this client can see it. The list is made when there is memory for the reply. Otherwise
// each of thousands of clients that wait for memory would keep a list of its own while
// clients come and go.
func (rb *readBatch) appendListReply(build func(ids []uint64) (n int, frame func([]byte) []byte)) error {
	for {
		var ids []uint64
		if rb.conn.canList() {
			ids = rb.conn.hub.registry.IDs()
		}
		n, frame := build(ids)
		if rb.replyFits(n) {
			rb.appendReply(frame)
			return nil
		}
		// after a wait, the list is a different one
		if err := rb.ensureRoom(nil, relay.Options{}, n); err != nil {
			return err
		}
	}
}

// replyFits reports whether a reply of n bytes can be appended to the batch.
func (rb *readBatch) replyFits(n int) bool { return !rb.builder.HasMessages() && rb.builder.HasRoom(n) }

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

// handlePing replies to a PING, after an ACK for the SENDs before it.
func (rb *readBatch) handlePing(f *socket.Frame) error {
	n, err := wire.ParseUint64(f.Payload)
	if err == nil {
		err = rb.offerBatch()
	}
	if err != nil {
		return err
	}
	rb.conn.session().ackAll()
	return rb.sendReply(wire.AppendPong(nil, n))
}

// sendError replies to a request with ERROR.
func (rb *readBatch) sendError(seq uint64, code wire.ErrorCode, text string) error {
	h := rb.conn.hub
	h.counters.errors[code].Add(1)
	h.limitedLog.LogWarn("request rejected", "reason", code.String(), "client", rb.conn.id.Load(), "error", text)
	return rb.sendReply(wire.AppendError(nil, seq, code, text))
}

// sendReply queues a frame for the client itself.
func (rb *readBatch) sendReply(frame []byte) error {
	if err := rb.ensureRoom(nil, relay.Options{}, len(frame)); err != nil {
		return err
	}
	rb.appendReply(func(b []byte) []byte { return append(b, frame...) })
	return nil
}

// appendReply appends a reply to the batch. ensureRoom must have made room for it.
func (rb *readBatch) appendReply(encode func([]byte) []byte) {
	rb.builder.Append(nil, relay.Options{}, encode)
}

// split returns the ids below and above id. ids must be ascending.
func split(ids []uint64, id uint64) (before, after []uint64) {
	i, found := slices.BinarySearch(ids, id)
	if !found {
		return ids, nil
	}
	return ids[:i], ids[i+1:]
}

// handleRenew handles a RENEW, by which the client replaces the token of its connection. The
// frames behind it have the new permissions. If the renewal fails, everything stays as it was.
func (rb *readBatch) handleRenew(f *socket.Frame) error {
	renew, err := wire.ParseRenew(f.Payload)
	if err != nil {
		return err
	}
	if err := rb.offerBatch(); err != nil { // the frames before have the old permissions
		return err
	}
	rb.sender.Flusher.Reset() // others must not wait for what follows
	rb.sender.ReleaseRecvBuf()
	c := rb.conn
	permissions, err := c.renew(renew.Token)
	switch {
	case errors.Is(err, errConnClosed), errors.Is(err, socket.ErrInterrupted):
		return err
	case err != nil:
		return rb.sendError(0, renewalErrorCode(err), err.Error())
	}
	c.applyRenewed(permissions)
	rb.maxRequests = c.rate.maxRequests()
	if !c.canWatch() && c.hub.registry.Unwatch(watcher{c}) {
		return rb.sendError(0, wire.ErrorRefused, "watching presence is not permitted any more")
	}
	return nil
}
