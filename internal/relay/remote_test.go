package relay

import (
	"slices"
	"sync"
	"testing"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// testPeer is a Peer that records its transfers. It holds their buffers until done is called.
type testPeer struct {
	onRetract func(options *outbox.Options) // nil: nothing is done

	mu        sync.Mutex // guards the fields below
	transfers []*Transfer
	retracted []*outbox.Options
}

func (p *testPeer) Send(t *Transfer) {
	t.Batch.Buffer.Retain()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.transfers = append(p.transfers, t)
}

func (p *testPeer) Retract(options *outbox.Options) {
	p.mu.Lock()
	p.retracted = append(p.retracted, options)
	p.mu.Unlock()
	if p.onRetract != nil {
		p.onRetract(options)
	}
}

// take returns the only transfer since the last call. Its end is that of the test.
func (p *testPeer) take(t *testing.T) *Transfer {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.transfers) != 1 {
		t.Fatalf("%d transfers, want 1", len(p.transfers))
	}
	transfer := p.transfers[0]
	p.transfers = nil
	t.Cleanup(transfer.Batch.Buffer.Release)
	return transfer
}

// retracts returns the number of calls of Retract.
func (p *testPeer) retracts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.retracted)
}

// TestRemote_Destination_PassesRetractOn checks that a Remote accepts no single offer, and does not
// hide that its peer must retract what has expired.
func TestRemote_Destination_PassesRetractOn(t *testing.T) {
	tr, peer := newTestRelay(t, nil), new(testPeer)
	var dest Destination = &Remote{Peer: peer}
	if dest.Version() != versionRemote || dest.Verdicts() != nil {
		t.Errorf("version %d with the verdicts %v, want neither", dest.Version(), dest.Verdicts())
	}
	batch := tr.newBatch(numbered(1)...)
	defer batch.Buffer.Release()
	if got := dest.Offer(&batch, new(outbox.Flusher)); got != outbox.Closed || len(peer.transfers) != 0 {
		t.Errorf("a single offer has the outcome %d and leads to %d transfers", got, len(peer.transfers))
	}
	options := new(outbox.Options)
	if dest.Retract(options) || !slices.Equal(peer.retracted, []*outbox.Options{options}) {
		t.Errorf("retracted %v, want it passed on, and nothing still queued here", peer.retracted)
	}
}
