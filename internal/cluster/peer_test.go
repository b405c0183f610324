package cluster

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// startBusCluster starts a hub with clients on a bus.
func startBusCluster(t testing.TB, b *testBus, node Node, ids ...uint64) *Cluster {
	config := testConfig(b.join(t, node), ids...)
	config.Node = node
	return startTestCluster(t, config)
}

// stateOf returns the state of a hub; ok is false if it is not known.
func stateOf(c *Cluster, node Node) (state State, ok bool) {
	for _, info := range c.Hubs() {
		if info.Node == node {
			return info.State, true
		}
	}
	return 0, false
}

func wantState(t testing.TB, c *Cluster, node Node, want State) {
	t.Helper()
	if got, ok := stateOf(c, node); got != want || !ok {
		t.Errorf("hub %d is %v (%v), want %v", node, got, ok, want)
	}
}

// keepBeating sends a heartbeat per second for a time.
func (r *rogue) keepBeating(d time.Duration, h *heartbeat) {
	for range d / time.Second {
		r.beat(h)
		pass(time.Second)
	}
}

// sendTo sends one message from client 1 of a hub, and returns its events.
func sendTo(c *Cluster, to uint64) *testEvents {
	events := new(testEvents)
	options := relay.Options{IsSend: true, Wire: wire.MakeOptions(wire.LevelWritten, wire.OverflowBlock)}
	var found [1]relay.Destination
	c.config.Registry.Find([]uint64{to}, found[:])
	remote, ok := found[0].(*relay.Remote)
	if !ok {
		return nil
	}
	buffer := c.config.NewAccount().ForceAcquire(100)
	frame := wire.AppendDeliver(buffer.Bytes()[:0], &wire.Deliver{Sender: 1, Seq: 1})
	var fl outbox.Flusher
	remote.Peer.Send(&relay.Transfer{
		Origin: 1, FirstSeq: 1, Options: options, ReportBy: time.Now().Add(time.Minute),
		Batch:     outbox.Batch{Buffer: buffer, To: len(frame), Frames: 1, Messages: true, Options: &outbox.Options{Events: events}},
		Receivers: []relay.TransferTo{{ID: to}}, Queued: fl.AddBlocked(), Events: events,
	})
	buffer.Release()
	fl.OnUnblocked(func() { events.done++ })
	return events
}

func TestPeer_Silent_IsLost(t *testing.T) {
	inTestBus(t, func(t *testing.T, b *testBus) {
		c := startBusCluster(t, b, testNode, 1)
		r := startRogue(t, b, 2, func(r *rogue) { r.sayClients(1, 20, 21) })
		pass(time.Second)
		wantState(t, c, 2, StateUp)
		if ids := c.config.Registry.IDs(); !slices.Equal(ids, []uint64{1, 20, 21}) || c.IsLost(20) {
			t.Errorf("the list is %d", ids)
		}
		r.beat(testHeartbeat("rogue"))
		pass(time.Millisecond)
		b.setDeaf(testNode, true) // nothing comes from the rogue any more
		pass(maxSilence - heartbeatInterval)
		wantState(t, c, 2, StateUp)
		before := sendTo(c, 20)
		pass(2*heartbeatInterval + time.Millisecond)
		wantState(t, c, 2, StateLost)
		before.want(t, eventAt(0, outbox.EventUnacked))
		if ids := c.config.Registry.IDs(); !slices.Equal(ids, []uint64{1}) || !c.IsLost(20) || c.IsLost(1) {
			t.Errorf("the list is %d, client 20 is lost: %v", ids, c.IsLost(20))
		}
		b.setDeaf(testNode, false)
		pass(3 * time.Second)
		wantState(t, c, 2, StateUp)
		if c.IsLost(20) {
			t.Error("client 20 is lost although its hub is back")
		}
	})
}

// TestPeer_Deaf_IsLost has the other hub be heard, and hear nothing. Without a limit, what is sent
// to its clients would wait for ever.
func TestPeer_Deaf_IsLost(t *testing.T) {
	inTestBus(t, func(t *testing.T, b *testBus) {
		config, log := testConfig(b.join(t, testNode), 1), new(bytes.Buffer)
		config.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		c := startTestCluster(t, config)
		r := startRogue(t, b, 2, func(r *rogue) { r.sayClients(1, 20) })
		h := testHeartbeat("rogue")
		h.Revision, h.Clients = 1, 1
		pass(time.Second)
		b.setDeaf(2, true)
		events := sendTo(c, 20)
		r.keepBeating(maxSilence+2*time.Second, h)
		if c.IsLost(20); events.done != 1 || !c.IsLost(20) {
			t.Errorf("unblocked %d times", events.done)
		}
		events.want(t, eventAt(0, outbox.EventUnacked))
		if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `cause="the hub has acknowledged nothing" silent_for=`) {
			t.Errorf("the loss is logged as %q", text)
		}
		b.setDeaf(2, false)
		r.keepBeating(4*time.Second, h)
		wantState(t, c, 2, StateUp)
	})
}

// TestPeer_Nonsense_LeavesOthersAlone has a hub that sends nonsense whenever it can. The link to it
// breaks seldom, and another hub notices nothing.
func TestPeer_Nonsense_LeavesOthersAlone(t *testing.T) {
	inTestBus(t, func(t *testing.T, b *testBus) {
		c := startBusCluster(t, b, testNode, 1)
		bystander := startBusCluster(t, b, 3, 30)
		r := startRogue(t, b, 2, func(r *rogue) { r.say(appendRecordHeader(nil, recordQueued, 1, 0), []byte{0}) })
		r.keepBeating(time.Minute, testHeartbeat("rogue"))
		if n := r.breakCount(); n < 3 || n > 25 {
			t.Errorf("the link breaks %d times in a minute", n)
		}
		wantState(t, c, 3, StateUp)
		wantState(t, bystander, testNode, StateUp)
		events := sendTo(c, 30)
		pass(time.Second)
		if events.done != 1 {
			t.Error("a message to the bystander is not queued")
		}
		r.setOnEstablished(func(r *rogue) { r.sayClients(1, 20) })
		r.keepBeating(2*maxIgnored+5*time.Second, testHeartbeat("rogue"))
		wantState(t, c, 2, StateUp)
	})
}

// TestPeer_LaterVersion has a hub that says more than this version knows.
func TestPeer_LaterVersion(t *testing.T) {
	inTestBus(t, func(t *testing.T, b *testBus) {
		c := startBusCluster(t, b, testNode, 1)
		later := []byte("field of a later version")
		r := startRogue(t, b, 2, func(r *rogue) {
			r.say(appendRecordHeader(nil, 77, len(later), 1000), later, make([]byte, 1000))
			head, body := clientsRecord(1, clientsSnapshot|0x80, []uint64{20}, nil)
			r.say(appendRecordHeader(nil, recordClients, len(head)+len(later), len(body)), head, later, body)
			head, body = encodeBatch(batchHead{number: 1, origin: 20, firstSeq: 1, frames: 1, isSend: true}, 1)
			r.say(appendRecordHeader(nil, recordBatch, len(head)+len(later), len(body)), head, later, body)
		})
		pass(time.Second)
		wantState(t, c, 2, StateUp)
		sendTo(c, 20)
		pass(time.Second)
		if n := len(r.received(recordBatch)); n != 1 {
			t.Fatalf("the other hub gets %d batches", n)
		}
		if queued := r.received(recordQueued); len(queued) != 1 || !bytes.Equal(queued[0].head, queuedHead(1, 1)) {
			t.Errorf("%+v, want that the message of the other hub is queued", queued)
		}
		part := partQueuedHead(1, 0)
		r.say(appendRecordHeader(nil, recordPartQueued, len(part)+len(later), 0), part, later)
		report := wire.AppendReport(nil, 1, []byte{99})
		r.say(appendRecordHeader(nil, recordFates, fatesHeadSize+len(later), len(report)), fatesHead(1), later, report)
		queued := queuedHead(1, 1)
		r.say(appendRecordHeader(nil, recordQueued, len(queued)+len(later), 0), queued, later)
		pass(time.Second)
		if n := r.breakCount(); n > 1 { // at the beginning, if the hub has begun in a higher generation
			t.Errorf("the link breaks %d times", n)
		}
		for _, d := range []uint64{1} {
			var found [1]relay.Destination
			c.config.Registry.Find([]uint64{d}, found[:])
			found[0].(*testDest).write()
		}
	})
}

// TestPeer_ClientsBeforeMessages sends to a client of a hub whose link has just begun anew. The
// clients of this hub come first nevertheless.
func TestPeer_ClientsBeforeMessages(t *testing.T) {
	inTestBus(t, func(t *testing.T, b *testBus) {
		c := startBusCluster(t, b, testNode, 1)
		r := startRogue(t, b, 2, func(r *rogue) { r.sayClients(1, 20) })
		pass(time.Second)
		c.peer(2).link.Break(errTest)
		sendTo(c, 20)
		pass(time.Second)
		r.mu.Lock()
		defer r.mu.Unlock()
		if records := r.log.records; len(records) < 2 || records[0].recordType != recordClients || records[1].recordType != recordBatch {
			t.Errorf("%+v, want the clients and then the message", records)
		}
	})
}

// TestPeer_Disagrees begins the link anew if the other hub says that it has other clients, not more
// than once per heartbeat, and ever less often.
func TestPeer_Disagrees(t *testing.T) {
	inTestBus(t, func(t *testing.T, b *testBus) {
		c := startBusCluster(t, b, testNode, 1)
		r := startRogue(t, b, 2, func(r *rogue) { r.sayClients(1, 20) })
		h := testHeartbeat("rogue")
		h.Revision, h.Clients = 1, 1
		r.keepBeating(10*time.Second, h)
		if n := r.breakCount(); n > 1 { // at the beginning, if the hub has begun in a higher generation
			t.Fatalf("the link breaks %d times although all is right", n)
		}
		h.Clients = 2
		r.keepBeating(time.Minute, h)
		if n := r.breakCount(); n < 2 || n > 25 {
			t.Errorf("the link breaks %d times in a minute", n)
		}
		h.Clients = 1
		r.keepBeating(maxIgnored+5*time.Second, h)
		wantState(t, c, 2, StateUp)
	})
}

func TestState_String(t *testing.T) {
	if s := StateConnecting.String() + StateUp.String() + StateLost.String(); s != "connectinguplost" {
		t.Error(s)
	}
}

// FuzzPeer_Stream has any bytes be the stream of another hub. A bystander can still be sent to.
func FuzzPeer_Stream(f *testing.F) {
	record := func(t recordType, head, body []byte) []byte {
		return slices.Concat(appendRecordHeader(nil, t, len(head), len(body)), head, body)
	}
	head, body := clientsRecord(1, clientsSnapshot, []uint64{1, 20}, nil)
	f.Add(record(recordClients, head, body))
	head, body = encodeBatch(batchHead{number: 1, origin: 20, firstSeq: 1, frames: 2, isSend: true}, 1, 30, 9)
	f.Add(record(recordBatch, head, body))
	f.Add(record(recordBatch, append(bytes.Clone(head[:48]), 0, 0, 0, 0xff), body))
	head, body = encodeBatch(testBatchHead, 1, 1)
	f.Add(record(recordBatch, head, body))
	f.Add(record(recordQueued, queuedHead(1, 1), nil))
	f.Add(record(recordPartQueued, partQueuedHead(1, 0), nil))
	f.Add(record(recordFates, fatesHead(1), wire.AppendReport(nil, 1, []byte{2})))
	f.Add(record(99, []byte("head"), []byte("body")))
	f.Fuzz(func(t *testing.T, data []byte) {
		inTestBus(t, func(t *testing.T, b *testBus) {
			c := startBusCluster(t, b, testNode, 1)
			startBusCluster(t, b, 3, 30)
			r := startRogue(t, b, 2, func(r *rogue) { r.sayClients(1, 20) })
			pass(time.Second)
			toRogue := sendTo(c, 20)
			r.say(data)
			pass(time.Second)
			events := sendTo(c, 30)
			pass(2 * time.Second)
			if events == nil || events.done != 1 || toRogue == nil || toRogue.done > 1 {
				t.Error("a message to the bystander is not queued")
			}
			var found [1]relay.Destination
			c.config.Registry.Find([]uint64{1}, found[:])
			found[0].(*testDest).write()
			pass(time.Minute) // reports
		})
	})
}
