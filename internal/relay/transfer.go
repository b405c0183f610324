package relay

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// transfer sends a batch to the hubs of those receivers whose destination is a Remote, and reports
// whether it has sent any Transfer. dests holds no other destination, and is empty afterwards.
func (s *Sender) transfer(m *Messages, ids []uint64, dests []Destination, r *recorders) (sent bool) {
	var events TransferEvents
	if s.batch.Options != nil {
		events = &transferEvents{EventHandler: s.batch.Options.Events, recorders: *r}
	}
	expired := m.Options.Expires != 0 && time.Now().UnixNano() >= m.Options.Expires
	for i, dest := range dests {
		remote, ok := dest.(*Remote)
		switch {
		case !ok:
		case expired:
			dests[i] = nil
			r.recordFate(i, wire.FateExpired, 0, s.batch.Frames)
		default:
			remote.Peer.Send(s.newTransfer(m, events, takeReceivers(remote, i, ids, dests), r))
			sent = true
		}
	}
	return sent
}

// newTransfer returns a Transfer of the batch. It counts as one blocked send of the Flusher.
func (s *Sender) newTransfer(m *Messages, events TransferEvents, receivers []TransferTo, r *recorders) *Transfer {
	t := &Transfer{
		Origin: m.Origin.ID(), Options: m.Options, FirstSeq: m.FirstSeq, ReadAt: s.ReadAt().UnixMicro(),
		Batch: s.batch, Receivers: receivers, Queued: s.Flusher.AddBlocked(), Events: events,
	}
	t.Batch.Receiver = 0 // Receivers says who they are
	if r.tracker != nil {
		t.ReportBy = r.tracker.reportBy
	}
	return t
}

// takeReceivers removes the receivers at a Remote from dests and returns them. The first of them
// has index first. Hubs are few: to look through dests once for each of them costs less than a
// list of hubs, which the Sender would have to keep.
func takeReceivers(remote *Remote, first int, ids []uint64, dests []Destination) []TransferTo {
	n := 0
	for _, dest := range dests[first:] {
		if at, ok := dest.(*Remote); ok && at == remote {
			n++
		}
	}
	receivers := make([]TransferTo, 0, n)
	for i := first; len(receivers) < n; i++ {
		if at, ok := dests[i].(*Remote); ok && at == remote {
			receivers = append(receivers, TransferTo{ID: ids[i], Index: i})
			dests[i] = nil
		}
	}
	return receivers
}

// transferEvents is the TransferEvents of the Transfers of one batch.
type transferEvents struct {
	outbox.EventHandler // gets the events of all receivers of the batch
	recorders
}

// HandleEvent implements TransferEvents. A hub that is lost has perhaps not written the messages,
// unlike the connection of an outbox: the trace says that.
func (e *transferEvents) HandleEvent(receiver int, event outbox.Event, first, frames int) {
	if e.traces != nil && event == outbox.EventUnacked {
		e.traces.record(receiver, wire.FateUncertain, first, frames)
	}
	e.EventHandler.HandleEvent(receiver, event, first, frames)
}

// Decide implements TransferEvents. Of a fate that only a later version of the hub knows, this hub
// cannot say more than that it is uncertain.
func (e *transferEvents) Decide(receiver, first, frames int, fate wire.Fate) {
	if fate > wire.MaxFate {
		fate = wire.FateUncertain
	}
	if e.tracker != nil {
		e.tracker.decide(receiver, first, frames, fate)
	}
	if e.traces != nil {
		e.traces.recordRemote(receiver, fate, first, frames)
	}
}
