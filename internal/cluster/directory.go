package cluster

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sechlol/go-message-hub/internal/relay"
)

// directory applies what another hub says of its clients. The callbacks of the link own it, except
// where it says otherwise.
type directory struct {
	// Static after construction.
	group    *relay.Remote
	registry *Registry
	onClaim  func(id uint64, since int64) // a client of this hub is a client of the other hub as well

	// Owned by the callbacks of the link.
	pieces []uint64 // ids of the snapshot that is coming

	// lost holds the clients that the hub had when it was lost, ascending. nil: it is not lost.
	lost atomic.Pointer[[]uint64]

	// mu guards the fields below, and is held while the group changes.
	mu       sync.Mutex
	state    directoryState
	known    bool   // the group has the clients of the hub
	revision uint64 // of the clients in the group
}

// directoryState says what a directory does with the next record.
//
//	awaitsSnapshot ◄──► inSnapshot
//	    ▲                   │
//	    └──── following ◄───┘
//
// directoryClosed can follow on each of them.
type directoryState uint8

const (
	awaitsSnapshot directoryState = iota // the stream has begun anew
	inSnapshot                           // a part of the snapshot has come
	following                            // changes follow
	directoryClosed
)

// handleClients handles a recordClients, and reports whether it ends a snapshot.
func (d *directory) handleClients(head, body []byte) (snapshot bool, err error) {
	if len(head) < clientsHeadSize {
		return false, nonsense("CLIENTS with a head of %d bytes", len(head))
	}
	flags, n := head[8], binary.BigEndian.Uint32(head[9:])
	if uint64(n)*16 > uint64(len(body)) || (len(body)-int(n)*16)%8 != 0 {
		return false, nonsense("CLIENTS with %d that joined in %d bytes", n, len(body))
	}
	joined, left := make([]uint64, n), make([]uint64, (len(body)-int(n)*16)/8)
	for i := range joined {
		joined[i] = binary.BigEndian.Uint64(body[16*i:])
	}
	for i := range left {
		left[i] = binary.BigEndian.Uint64(body[16*int(n)+8*i:])
	}
	if !isAscending(joined) || !isAscending(left) {
		return false, nonsense("CLIENTS that are not ascending")
	}
	d.checkClaims(joined, body)
	return d.apply(binary.BigEndian.Uint64(head), flags, joined, left)
}

// checkClaims calls onClaim for those ids that clients of this hub have. The connect time of each
// is in body.
func (d *directory) checkClaims(joined []uint64, body []byte) {
	var space [64]relay.Destination
	for ids := range slices.Chunk(joined, len(space)) {
		found := space[:len(ids)]
		d.registry.Find(ids, found)
		for i, id := range ids {
			if _, remote := found[i].(*relay.Remote); found[i] != nil && !remote {
				d.onClaim(id, int64(binary.BigEndian.Uint64(body[16*i+8:])))
			}
		}
		body = body[16*len(ids):]
	}
}

// apply applies a record, and reports whether it ends a snapshot.
func (d *directory) apply(revision uint64, flags byte, joined, left []uint64) (snapshot bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if flags&clientsSnapshot != 0 && d.state != directoryClosed {
		d.pieces, d.state = nil, inSnapshot
	}
	switch {
	case d.state == directoryClosed:
		return false, errLeft
	case d.state == awaitsSnapshot:
		return false, nonsense("CLIENTS without a snapshot")
	case d.state == following:
		d.registry.UpdateGroup(d.group, joined, left)
		d.revision = revision
		return false, nil
	case len(left) > 0 || len(d.pieces) > 0 && len(joined) > 0 && joined[0] <= d.pieces[len(d.pieces)-1]:
		return false, nonsense("snapshot of CLIENTS that is not ascending")
	}
	d.pieces = append(d.pieces, joined...)
	if flags&clientsMore != 0 {
		return false, nil
	}
	d.registry.ReplaceGroup(d.group, d.pieces)
	d.lost.Store(nil)
	d.pieces, d.state, d.known, d.revision = nil, following, true, revision
	return true, nil
}

// restart expects a snapshot: the stream has begun anew. The clients stay as they are until then.
func (d *directory) restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pieces = nil
	if d.state != directoryClosed {
		d.state = awaitsSnapshot
	}
}

// lose removes the clients of the hub, which is lost, and keeps their ids for isLost. It can be
// called concurrently.
func (d *directory) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = awaitsSnapshot // if the rest of a snapshot is on its way, it is for nothing
	if d.known {
		ids := d.registry.RemoveGroup(d.group)
		d.lost.Store(&ids)
		d.known = false
	}
}

// close removes the clients of the hub for ever. It can be called concurrently.
func (d *directory) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state, d.known = directoryClosed, false
	d.registry.RemoveGroup(d.group)
	d.lost.Store(nil)
}

// isLost reports whether a client was connected to the hub when the hub was lost. It can be called
// concurrently.
func (d *directory) isLost(id uint64) bool {
	ids := d.lost.Load()
	if ids == nil {
		return false
	}
	_, found := slices.BinarySearch(*ids, id)
	return found
}

// agrees reports whether this hub knows as many clients as the other hub says it has. It can be
// called concurrently.
func (d *directory) agrees(h *heartbeat) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state != following || d.revision != h.Revision || d.registry.GroupSize(d.group) == h.Clients
}

// isAscending reports whether ids are in ascending order, without duplicates.
func isAscending(ids []uint64) bool {
	for i := 1; i < len(ids); i++ {
		if ids[i] <= ids[i-1] {
			return false
		}
	}
	return true
}
