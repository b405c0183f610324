package relay

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// sendRemote sends messages to receiver 0 at another hub, and to receiver 1 at this one, which
// queues them.
func (tr *testRelay) sendRemote(t *testing.T, opts Options, messages int) (transfer *Transfer, peer *testPeer) {
	t.Helper()
	peer = new(testPeer)
	tr.dests = map[uint64]Destination{0: &Remote{peer}, 1: &stubDest{version: 2}}
	tr.send(opts, []uint64{0, 1}, numbered(messages)...)
	return peer.take(t), peer
}

// expiringOptions are options of SENDs that expire after a second.
func expiringOptions(level wire.Level) Options {
	opts := levelOptions(level)
	opts.Expires = time.Now().Add(time.Second).UnixNano()
	return opts
}

// TestTracker_ReportTimeout_WaitsForRemotes lets the report timeout end. The fates of this hub are
// those of that moment. The fates of the other hub count until the grace is over.
func TestTracker_ReportTimeout_WaitsForRemotes(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		transfer, peer := tr.sendRemote(t, levelOptions(wire.LevelReceived), 5)
		here := transfer.Batch.Options.Events
		transfer.Events.Decide(0, 0, 1, wire.FateReceived)
		transfer.Events.HandleEvent(0, outbox.EventWritten, 4, 1)
		sleep(testReportTimeout)
		tr.origin.wantReport(1, wire.FateReceived, wire.FateQueued)
		here.HandleEvent(1, outbox.EventAcked, 0, 5) // too late
		for seq := range uint64(4) {
			tr.origin.wantReport(seq + 2)
		}
		sleep(remoteGrace - 1)
		transfer.Events.Decide(0, 1, 1, wire.FateGone)
		tr.origin.wantReport(2, wire.FateGone, wire.FateQueued)
		transfer.Events.HandleEvent(0, outbox.EventQueued, 2, 1)
		tr.origin.wantReport(3)
		sleep(1)
		tr.origin.wantReport(3, wire.FateQueued, wire.FateQueued)
		tr.origin.wantReport(4, wire.FatePending, wire.FateQueued)
		tr.origin.wantReport(5, wire.FateWritten, wire.FateQueued)
		transfer.Events.Decide(0, 0, 5, wire.FateReceived) // too late
		if peer.retracts() != 0 {
			t.Error("messages that have not expired are retracted")
		}
		if want := map[wire.Fate]uint64{wire.FateReceived: 1, wire.FateGone: 1, wire.FatePending: 1, wire.FateWritten: 1, wire.FateQueued: 6}; !maps.Equal(tr.Fates(), want) {
			t.Errorf("fates %v, want %v", tr.Fates(), want)
		}
	})
}

// TestTracker_ReportTimeout_GraceEndsWithLastFate checks that the timer of the grace ends when no
// message waits any more.
func TestTracker_ReportTimeout_GraceEndsWithLastFate(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		transfer, _ := tr.sendRemote(t, levelOptions(wire.LevelWritten), 2)
		sleep(testReportTimeout)
		ends := time.Now()
		transfer.Events.Decide(0, 0, 2, wire.FateWritten)
		tr.timers.Wait()
		if waited := time.Since(ends); waited != 0 {
			t.Errorf("a timer ran for %v", waited)
		}
	})
}

// TestTracker_ReportTimeout_WithoutRemote_NoGrace checks that messages whose remote receivers are
// decided do not wait.
func TestTracker_ReportTimeout_WithoutRemote_NoGrace(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		begun := time.Now()
		transfer, _ := tr.sendRemote(t, levelOptions(wire.LevelWritten), 1)
		transfer.Events.Decide(0, 0, 1, wire.FateWritten)
		tr.timers.Wait()
		if waited := time.Since(begun); waited != testReportTimeout {
			t.Errorf("the timers ran for %v, want %v", waited, testReportTimeout)
		}
		tr.origin.wantReport(1, wire.FateWritten, wire.FateQueued)
	})
}

// TestTracker_Expiry_OfRemotes lets messages expire. What the peer has not sent is retracted. The
// other hub says what has become of the rest, or it is uncertain, unless it was written.
func TestTracker_Expiry_OfRemotes(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		transfer, peer := tr.sendRemote(t, expiringOptions(wire.LevelReceived), 5)
		here := transfer.Batch.Options.Events
		peer.onRetract = func(options *outbox.Options) {
			if options != transfer.Batch.Options {
				t.Error("other options than those of the transfer")
			}
			transfer.Events.HandleEvent(0, outbox.EventExpired, 0, 1)
		}
		transfer.Events.HandleEvent(0, outbox.EventQueued, 1, 3)
		transfer.Events.HandleEvent(0, outbox.EventWritten, 1, 1)
		here.HandleEvent(1, outbox.EventAcked, 0, 5)
		sleep(time.Second)
		tr.origin.wantReport(1, wire.FateExpired, wire.FateReceived)
		for seq := range uint64(4) {
			tr.origin.wantReport(seq + 2)
		}
		sleep(remoteGrace / 2)
		transfer.Events.HandleEvent(0, outbox.EventWritten, 2, 1) // the other hub can still know more
		tr.origin.wantReport(3)
		transfer.Events.Decide(0, 2, 1, wire.FateReceived)
		tr.origin.wantReport(3, wire.FateReceived, wire.FateReceived)
		sleep(remoteGrace / 2)
		tr.origin.wantReport(2, wire.FateWritten, wire.FateReceived)
		tr.origin.wantReport(4, wire.FateUncertain, wire.FateReceived)
		tr.origin.wantReport(5, wire.FateUncertain, wire.FateReceived)
		transfer.Events.Decide(0, 0, 5, wire.FateExpired) // too late
		if peer.retracts() != 1 {
			t.Errorf("%d calls of Retract, want 1", peer.retracts())
		}
	})
}

// TestTracker_Expiry_RetractsOncePerHub sends a message that expires to many receivers at two hubs.
// A hub of which all fates are decided is not asked.
func TestTracker_Expiry_RetractsOncePerHub(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		peers := []*testPeer{{}, {}, {}}
		var ids []uint64
		for hub, peer := range peers {
			remote := &Remote{peer}
			for i := range 5 {
				id := uint64(10*i + hub)
				tr.dests[id] = remote
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		tr.send(expiringOptions(wire.LevelWritten), ids, numbered(1)...)
		for hub, peer := range peers {
			if transfer := peer.take(t); hub == 0 {
				for _, to := range transfer.Receivers {
					transfer.Events.Decide(to.Index, 0, 1, wire.FateWritten)
				}
			}
		}
		sleep(time.Second)
		if got := []int{peers[0].retracts(), peers[1].retracts(), peers[2].retracts()}; !slices.Equal(got, []int{0, 1, 1}) {
			t.Errorf("calls of Retract: %v, want none at the first hub and one at each other", got)
		}
		sleep(remoteGrace)
		if report := tr.origin.report(1); len(report) != len(ids) {
			t.Errorf("the report is %v", report)
		}
	})
}

// TestTracker_Expiry_BeforeTransfer lets a message expire, and the grace pass, while a receiver of
// this hub is being offered it. Nothing goes to the other hub, and nothing false is said of it.
func TestTracker_Expiry_BeforeTransfer(t *testing.T) {
	for wait, want := range map[time.Duration]wire.Fate{
		time.Second + remoteGrace/2: wire.FateExpired,
		time.Second + remoteGrace:   wire.FateUncertain, // not known by then
	} {
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			peer := new(testPeer)
			here := &stubDest{version: 2, onOffer: func(*outbox.Batch) outbox.Outcome { sleep(wait); return outbox.Full }}
			tr.dests = map[uint64]Destination{1: &Remote{peer}, 2: here}
			tr.send(expiringOptions(wire.LevelWritten), []uint64{1, 2, 1}, numbered(1)...)
			tr.origin.wantReport(1, want, wire.FateFull, want)
			if len(peer.transfers) != 0 {
				t.Error("an expired message is sent to the other hub")
			}
		})
	}
}
