package cluster

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sechlol/go-message-hub/internal/cluster/link"
	"github.com/sechlol/go-message-hub/internal/presence"
	"github.com/sechlol/go-message-hub/internal/relay"
)

// Registry is the registry of the clients of the hub, in which those of each other hub are a
// group.
type Registry = presence.Registry[relay.Destination]

// publisher tells another hub which clients this hub has. Its methods can be called concurrently.
type publisher struct {
	// Static after construction.
	stream   *link.Link
	registry *Registry
	since    func(id uint64) int64 // the connect time of a client, in µs since 1970; 0: not known

	published atomic.Uint64 // revision that was appended to the stream; 0: none in this generation

	mu         sync.Mutex
	generation uint64 // of the stream, to which published belongs
}

// publish appends all changes to the stream that it does not have.
func (p *publisher) publish() {
	if p.published.Load() == p.registry.LocalRevision() || !p.stream.Established() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	generation := p.stream.Generation()
	if generation != p.generation {
		p.generation = generation
		p.published.Store(0)
	}
	joined, left, snapshot, revision := p.registry.LocalChanges(p.published.Load())
	if !snapshot && len(joined)+len(left) == 0 {
		p.published.Store(revision)
		return
	}
	if p.append(joined, left, snapshot, revision) != generation {
		revision = 0 // the stream has begun anew meanwhile
	}
	p.published.Store(revision)
	p.stream.Flush()
}

// reset forgets what was published: the stream has begun anew.
func (p *publisher) reset() { p.published.Store(0) }

// append appends changes in records of at most maxClientsPerRecord clients. It returns the
// generation of the stream that has the last of them.
func (p *publisher) append(joined, left []uint64, snapshot bool, revision uint64) (generation uint64) {
	flags := byte(0)
	if snapshot {
		flags = clientsSnapshot
	}
	for more := true; more; flags &^= clientsSnapshot {
		j := joined[:min(len(joined), maxClientsPerRecord)]
		l := left[:min(len(left), maxClientsPerRecord-len(j))]
		joined, left = joined[len(j):], left[len(l):]
		more = len(joined)+len(left) > 0
		if flags &^= clientsMore; more {
			flags |= clientsMore
		}
		size := 16*len(j) + 8*len(l)
		b := make([]byte, 0, recordHeaderSize+clientsHeadSize+size)
		b = appendRecordHeader(b, recordClients, clientsHeadSize, size)
		b = binary.BigEndian.AppendUint64(b, revision)
		b = append(b, flags)
		b = binary.BigEndian.AppendUint32(b, uint32(len(j)))
		for _, id := range j {
			b = binary.BigEndian.AppendUint64(b, id)
			b = binary.BigEndian.AppendUint64(b, uint64(p.since(id)))
		}
		for _, id := range l {
			b = binary.BigEndian.AppendUint64(b, id)
		}
		generation, _ = p.stream.Append(b, nil, 0, 0)
	}
	return generation
}

// directory applies what another hub says of its clients. It belongs to the goroutine that handles
// the frames of the link, except where it says otherwise.
type directory struct {
	// Static after construction.
	group    *relay.Remote
	registry *Registry
	onClaim  func(id uint64, since int64) // a client of this hub is a client of the other hub as well

	pieces     []uint64 // ids of the snapshot that is coming
	inSnapshot bool

	revision atomic.Uint64 // of the last record

	// mu guards the fields below, and is held while the group changes.
	mu    sync.Mutex
	known bool     // the group has the clients of the hub
	lost  []uint64 // ascending: the clients that the hub had when it was lost; nil: it is not lost
}

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
		d.checkClaim(joined[i], int64(binary.BigEndian.Uint64(body[16*i+8:])))
	}
	for i := range left {
		left[i] = binary.BigEndian.Uint64(body[16*int(n)+8*i:])
	}
	if !isAscending(joined) || !isAscending(left) {
		return false, nonsense("CLIENTS that are not ascending")
	}
	d.revision.Store(binary.BigEndian.Uint64(head))
	return d.apply(flags, joined, left)
}

// checkClaim calls onClaim if a client of this hub has the id.
func (d *directory) checkClaim(id uint64, since int64) {
	var found [1]relay.Destination
	d.registry.Find([]uint64{id}, found[:])
	if _, remote := found[0].(*relay.Remote); found[0] != nil && !remote {
		d.onClaim(id, since)
	}
}

// apply applies a record, and reports whether it ends a snapshot.
func (d *directory) apply(flags byte, joined, left []uint64) (snapshot bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if flags&clientsSnapshot != 0 {
		d.pieces, d.inSnapshot = nil, true
	}
	switch {
	case !d.inSnapshot && !d.known:
		return false, nonsense("CLIENTS without a snapshot")
	case !d.inSnapshot:
		d.registry.UpdateGroup(d.group, joined, left)
		return false, nil
	case len(left) > 0 || len(d.pieces) > 0 && len(joined) > 0 && joined[0] <= d.pieces[len(d.pieces)-1]:
		return false, nonsense("snapshot of CLIENTS that is not ascending")
	}
	d.pieces = append(d.pieces, joined...)
	if flags&clientsMore != 0 {
		return false, nil
	}
	d.registry.ReplaceGroup(d.group, d.pieces)
	d.pieces, d.inSnapshot, d.known, d.lost = nil, false, true, nil
	return true, nil
}

// restart expects a snapshot: the stream has begun anew. The clients stay as they are until then.
func (d *directory) restart() { d.pieces, d.inSnapshot = nil, false }

// remove removes the clients of the hub, and keeps their ids for isLost. It can be called
// concurrently. It returns their number.
func (d *directory) remove(keep bool) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.known {
		return 0
	}
	ids := d.registry.RemoveGroup(d.group)
	d.known = false
	if keep {
		d.lost = ids
	}
	return len(ids)
}

// isLost reports whether a client was connected to the hub when the hub was lost. It can be called
// concurrently.
func (d *directory) isLost(id uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, found := slices.BinarySearch(d.lost, id)
	return found
}

// agrees reports whether this hub knows as many clients as the other hub says it has. It can be
// called concurrently.
func (d *directory) agrees(h *heartbeat) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.known || d.revision.Load() != h.Revision || d.registry.GroupSize(d.group) == h.Clients
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
