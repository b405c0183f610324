package presence

import "github.com/sechlol/go-message-hub/wire"

// Update is what a watcher is sent at once: a snapshot of the connected clients, or changes. It
// takes one PRESENCE, or several if it has many ids. An Update must not be changed.
type Update struct {
	revision     uint64
	snapshot     bool // joined is all connected clients
	joined, left []uint64
}

// newUpdate returns the net effect of the changes after revision since, which h covers.
func newUpdate(h history, since uint64) *Update {
	u := &Update{revision: h.revision}
	u.joined, u.left = h.since(since)
	return u
}

// newSnapshot returns the connected clients.
func newSnapshot(source watched) *Update {
	u := &Update{snapshot: true}
	u.joined, u.revision = source.list()
	return u
}

// Len returns the size of the frames of u on the wire, in bytes.
func (u *Update) Len() int {
	n := len(u.joined) + len(u.left)
	return wire.PresenceLen(len(u.joined), len(u.left)) + n/wire.MaxPageIDs*wire.PresenceLen(0, 0)
}

// Append appends the frames of u, and returns their number.
func (u *Update) Append(b []byte) (_ []byte, frames int) {
	joined, left := u.joined, u.left
	flags := wire.PresenceFlags(0)
	if u.snapshot {
		flags = wire.PresenceSnapshot
	}
	for more := true; more; frames++ {
		j := joined[:min(len(joined), wire.MaxPageIDs)]
		l := left[:min(len(left), wire.MaxPageIDs-len(j))]
		joined, left = joined[len(j):], left[len(l):]
		more = len(joined)+len(left) > 0
		if more {
			flags |= wire.PresenceMore
		} else {
			flags &^= wire.PresenceMore
		}
		b = wire.AppendPresence(b, u.revision, flags, j, l)
		flags &^= wire.PresenceSnapshot
	}
	return b, frames
}
