package cluster

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/presence"
	"github.com/sechlol/go-message-hub/internal/relay"
)

// Registry is the registry of the clients of the hub, in which those of each other hub are a
// group.
type Registry = presence.Registry[relay.Destination]

// clientStream is the stream on which a publisher publishes. It is implemented by a link.
type clientStream interface {
	Append(head []byte, buf *body.Buffer, from, to int) (generation, end uint64)
	Flush()
	Established() bool
	Generation() uint64
}

// publisher tells another hub which clients this hub has. Its methods can be called concurrently.
type publisher struct {
	// Static after construction.
	stream   clientStream
	registry *Registry
	since    func(id uint64) int64 // the connect time of a client, in µs since 1970; 0: not known

	// The revision that was appended to the stream, and the generation in which it was; 0: none.
	// generation is written last and read first.
	published, generation atomic.Uint64

	mu sync.Mutex // is held while something is published
}

// publish appends all changes to the stream that it does not have. While the link is not
// established, it does so only if a message of a client is about to follow: what is appended stays
// in memory.
func (p *publisher) publish(messageFollows bool) {
	if p.isUpToDate() || !messageFollows && !p.stream.Established() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	generation := p.stream.Generation()
	if generation != p.generation.Load() {
		p.published.Store(0)
		p.generation.Store(generation)
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

// isUpToDate reports whether the current generation of the stream has all changes.
func (p *publisher) isUpToDate() bool {
	return p.generation.Load() == p.stream.Generation() && p.published.Load() == p.registry.LocalRevision()
}

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
