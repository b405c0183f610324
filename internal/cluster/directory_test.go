package cluster

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/relay"
)

// newTestDirectory returns a directory of another hub, at a hub with clients.
func newTestDirectory(local ...uint64) *directory {
	return &directory{group: new(relay.Remote), registry: testRegistry(local...), onClaim: func(uint64, int64) {}}
}

// clientsRecord returns a recordClients. Each client is connected since its id.
func clientsRecord(revision uint64, flags byte, joined, left []uint64) (head, body []byte) {
	head = append(binary.BigEndian.AppendUint64(nil, revision), flags)
	head = binary.BigEndian.AppendUint32(head, uint32(len(joined)))
	for _, id := range joined {
		body = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(body, id), id)
	}
	for _, id := range left {
		body = binary.BigEndian.AppendUint64(body, id)
	}
	return head, body
}

// apply handles a recordClients.
func applyClients(t *testing.T, d *directory, revision uint64, flags byte, joined, left []uint64) (snapshot bool) {
	t.Helper()
	snapshot, err := d.handleClients(clientsRecord(revision, flags, joined, left))
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

func wantIDs(t *testing.T, d *directory, want ...uint64) {
	t.Helper()
	if got := d.registry.IDs(); !slices.Equal(got, want) {
		t.Errorf("the list is %d, want %d", got, want)
	}
}

// TestDirectory_SnapshotInPieces shows nothing of a snapshot before it is whole. A snapshot of the
// next generation replaces the clients; until then they stay.
func TestDirectory_SnapshotInPieces(t *testing.T) {
	d := newTestDirectory(100)
	if applyClients(t, d, 5, clientsSnapshot|clientsMore, []uint64{1, 2}, nil) {
		t.Error("the first piece ends the snapshot")
	}
	wantIDs(t, d, 100)
	if !applyClients(t, d, 5, 0, []uint64{3}, nil) {
		t.Error("the last piece does not end the snapshot")
	}
	wantIDs(t, d, 1, 2, 3, 100)
	applyClients(t, d, 7, 0, []uint64{4}, []uint64{1})
	wantIDs(t, d, 2, 3, 4, 100)
	d.restart()
	wantIDs(t, d, 2, 3, 4, 100)
	applyClients(t, d, 8, clientsSnapshot|clientsMore, []uint64{2}, nil)
	d.restart() // in the middle of a snapshot
	applyClients(t, d, 9, clientsSnapshot, []uint64{5}, nil)
	wantIDs(t, d, 5, 100)
	d.restart()
	applyClients(t, d, 10, clientsSnapshot, nil, nil)
	wantIDs(t, d, 100)
}

// TestDirectory_Lost remembers the clients of a lost hub until it is back. What still arrives of
// the old generation brings none of them back.
func TestDirectory_Lost(t *testing.T) {
	d := newTestDirectory()
	d.lose() // before it was known
	applyClients(t, d, 1, clientsSnapshot, []uint64{1, 2}, nil)
	if d.isLost(1) {
		t.Error("client 1 is lost")
	}
	d.lose()
	d.lose()
	wantIDs(t, d)
	if !d.isLost(1) || !d.isLost(2) || d.isLost(3) {
		t.Error("clients 1 and 2 are not lost, or 3 is")
	}
	if _, err := d.handleClients(clientsRecord(2, 0, []uint64{3}, nil)); !errors.Is(err, errNonsense) {
		t.Errorf("%v, want an error", err)
	}
	wantIDs(t, d)
	d.restart()
	applyClients(t, d, 3, clientsSnapshot|clientsMore, []uint64{2}, nil)
	if !d.isLost(1) {
		t.Error("client 1 is not lost any more, before the hub has said its clients")
	}
	d.lose() // again, in the middle of the snapshot
	if _, err := d.handleClients(clientsRecord(3, 0, []uint64{3}, nil)); err == nil {
		t.Error("the rest of the snapshot is accepted")
	}
	d.restart()
	applyClients(t, d, 4, clientsSnapshot, []uint64{2}, nil)
	if d.isLost(1) || d.isLost(2) {
		t.Error("a client of a hub that is back is lost")
	}
	wantIDs(t, d, 2)
}

// TestDirectory_Closed accepts nothing any more.
func TestDirectory_Closed(t *testing.T) {
	d := newTestDirectory()
	applyClients(t, d, 1, clientsSnapshot, []uint64{1}, nil)
	applyClients(t, d, 2, clientsSnapshot|clientsMore, []uint64{1}, nil)
	d.close()
	d.restart()
	for _, flags := range []byte{0, clientsSnapshot} {
		if _, err := d.handleClients(clientsRecord(2, flags, []uint64{3}, nil)); err == nil {
			t.Error("clients of a hub that has left are accepted")
		}
	}
	wantIDs(t, d)
	if d.isLost(1) {
		t.Error("a client of a hub that has left is lost")
	}
}

// TestDirectory_Claims calls for clients that this hub has as well, with the right connect time,
// and not for those of a third hub.
func TestDirectory_Claims(t *testing.T) {
	d := newTestDirectory(70, 90, 300)
	third := &relay.Remote{}
	d.registry.UpdateGroup(third, []uint64{80}, nil)
	var claims []uint64
	d.onClaim = func(id uint64, since int64) {
		if since != int64(id) {
			t.Errorf("client %d is connected since %d", id, since)
		}
		claims = append(claims, id)
	}
	var joined []uint64
	for id := range uint64(100) {
		joined = append(joined, id+1)
	}
	applyClients(t, d, 1, clientsSnapshot, joined, nil)
	applyClients(t, d, 2, 0, []uint64{300}, nil)
	if want := []uint64{70, 90, 300}; !slices.Equal(claims, want) {
		t.Errorf("claims of %d, want %d", claims, want)
	}
}

// TestDirectory_Agrees compares the number of clients only at the same revision, and not while a
// snapshot arrives.
func TestDirectory_Agrees(t *testing.T) {
	d := newTestDirectory()
	want := func(revision uint64, clients int, agrees bool) {
		t.Helper()
		if d.agrees(&heartbeat{Revision: revision, Clients: clients}) != agrees {
			t.Errorf("%d clients at revision %d: agrees is not %v", clients, revision, agrees)
		}
	}
	want(1, 9, true)
	applyClients(t, d, 1, clientsSnapshot, []uint64{1, 2}, nil)
	want(1, 2, true)
	want(1, 3, false)
	want(2, 3, true)
	d.restart()
	applyClients(t, d, 5, clientsSnapshot|clientsMore, []uint64{1, 2, 3}, nil)
	want(5, 4, true)
	want(1, 4, true)
	applyClients(t, d, 5, 0, []uint64{4}, nil)
	want(5, 4, true)
	want(5, 2, false)
}

func TestDirectory_Nonsense(t *testing.T) {
	record := func(revision uint64, flags byte, joined, left []uint64) func() ([]byte, []byte) {
		return func() ([]byte, []byte) { return clientsRecord(revision, flags, joined, left) }
	}
	for name, test := range map[string]func() ([]byte, []byte){
		"changes without a snapshot": record(1, 0, []uint64{1}, nil),
		"not ascending":              record(1, clientsSnapshot, []uint64{2, 1}, nil),
		"twice":                      record(1, clientsSnapshot, []uint64{1, 1}, nil),
		"left in a snapshot":         record(1, clientsSnapshot, []uint64{1}, []uint64{2}),
		"left twice":                 record(1, clientsSnapshot, nil, []uint64{2, 2}),
		"short head":                 func() ([]byte, []byte) { return make([]byte, clientsHeadSize-1), nil },
		"more than there are": func() ([]byte, []byte) {
			head, body := clientsRecord(1, clientsSnapshot, []uint64{1}, nil)
			binary.BigEndian.PutUint32(head[9:], 1<<31)
			return head, body
		},
		"torn id": func() ([]byte, []byte) {
			head, body := clientsRecord(1, clientsSnapshot, []uint64{1}, nil)
			return head, append(body, 0)
		},
	} {
		d := newTestDirectory()
		if _, err := d.handleClients(test()); !errors.Is(err, errNonsense) {
			t.Errorf("%s: %v, want an error", name, err)
		}
		wantIDs(t, d)
	}
	d := newTestDirectory()
	applyClients(t, d, 1, clientsSnapshot|clientsMore, []uint64{5}, nil)
	if _, err := d.handleClients(clientsRecord(1, 0, []uint64{5}, nil)); !errors.Is(err, errNonsense) {
		t.Errorf("pieces that overlap: %v, want an error", err)
	}
}
