package cluster

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
)

// testClients is what a recordClients says.
type testClients struct {
	flags        byte
	joined, left []uint64
}

func (c testClients) String() string {
	return fmt.Sprintf("flags %d: +%v -%v", c.flags, c.joined, c.left)
}

// parseClients returns what records say. The connect time of each client must be 10 times its id.
func parseClients(t *testing.T, records []testRecord) (clients []testClients) {
	t.Helper()
	for _, r := range records {
		if r.recordType != recordClients {
			t.Fatalf("record of type %d", r.recordType)
		}
		c := testClients{flags: r.head[8]}
		n := int(binary.BigEndian.Uint32(r.head[9:]))
		for i := range n {
			id, since := binary.BigEndian.Uint64(r.body[16*i:]), binary.BigEndian.Uint64(r.body[16*i+8:])
			if since != 10*id {
				t.Errorf("client %d is connected since %d", id, since)
			}
			c.joined = append(c.joined, id)
		}
		for rest := r.body[16*n:]; len(rest) > 0; rest = rest[8:] {
			c.left = append(c.left, binary.BigEndian.Uint64(rest))
		}
		clients = append(clients, c)
	}
	return clients
}

func newTestPublisher(ids ...uint64) (*publisher, *fakeStream) {
	s := newFakeStream()
	return &publisher{stream: s, registry: testRegistry(ids...), since: func(id uint64) int64 { return int64(10 * id) }}, s
}

// wantPublished checks what was published since the last call.
func wantPublished(t *testing.T, s *fakeStream, want ...testClients) {
	t.Helper()
	got := parseClients(t, s.take(t))
	if !slices.EqualFunc(got, want, func(a, b testClients) bool { return a.String() == b.String() }) {
		t.Errorf("published %v, want %v", got, want)
	}
}

func TestPublisher_SnapshotThenChanges(t *testing.T) {
	p, s := newTestPublisher(1, 2)
	p.publish(false)
	wantPublished(t, s, testClients{flags: clientsSnapshot, joined: []uint64{1, 2}})
	p.publish(false)
	wantPublished(t, s)
	d := &testDest{id: 3}
	p.registry.Join(3, d)
	p.publish(true)
	wantPublished(t, s, testClients{joined: []uint64{3}})
	p.registry.Leave(3, d)
	p.registry.Join(4, &testDest{id: 4})
	p.registry.Reannounce(1)
	p.publish(false)
	wantPublished(t, s, testClients{joined: []uint64{1, 4}, left: []uint64{3}})
	p.registry.Join(5, d)
	p.registry.Leave(5, d)
	p.publish(false)
	wantPublished(t, s)
}

func TestPublisher_NobodyConnected(t *testing.T) {
	p, s := newTestPublisher()
	p.publish(false)
	wantPublished(t, s, testClients{flags: clientsSnapshot})
}

// TestPublisher_Pieces publishes more than fits in a record.
func TestPublisher_Pieces(t *testing.T) {
	var ids []uint64
	for id := range uint64(2*maxClientsPerRecord + 1) {
		ids = append(ids, id+1)
	}
	p, s := newTestPublisher(ids...)
	p.publish(false)
	const n = maxClientsPerRecord
	wantPublished(t, s,
		testClients{flags: clientsSnapshot | clientsMore, joined: ids[:n]}, testClients{flags: clientsMore, joined: ids[n : 2*n]}, testClients{joined: ids[2*n:]})
}

// TestPublisher_Generations begins anew with each generation, whether or not anything has changed.
func TestPublisher_Generations(t *testing.T) {
	p, s := newTestPublisher(1)
	snapshot := testClients{flags: clientsSnapshot, joined: []uint64{1}}
	p.publish(false)
	wantPublished(t, s, snapshot)
	s.breaks()
	p.publish(false)
	wantPublished(t, s, snapshot)
	s.breaks()
	p.registry.Join(2, &testDest{id: 2})
	p.publish(true)
	snapshot.joined = []uint64{1, 2}
	wantPublished(t, s, snapshot)
	p.publish(false)
	wantPublished(t, s) // not again
}

// TestPublisher_BreaksMeanwhile has the stream begin anew while changes are appended: they go to
// the new generation, which then gets a snapshot as well.
func TestPublisher_BreaksMeanwhile(t *testing.T) {
	p, s := newTestPublisher(1)
	p.publish(false)
	s.take(t)
	p.registry.Join(2, &testDest{id: 2})
	s.onAppend = func() {
		s.onAppend = nil
		s.breaks()
	}
	p.publish(true)
	p.publish(true)
	wantPublished(t, s, testClients{joined: []uint64{2}}, testClients{flags: clientsSnapshot, joined: []uint64{1, 2}})
}

// TestPublisher_NotEstablished publishes only in front of a message.
func TestPublisher_NotEstablished(t *testing.T) {
	p, s := newTestPublisher(1)
	s.established = false
	p.publish(false)
	wantPublished(t, s)
	p.publish(true)
	wantPublished(t, s, testClients{flags: clientsSnapshot, joined: []uint64{1}})
}
