package cluster

import (
	"errors"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

var testBatchHead = batchHead{
	number: 1, origin: 7, firstSeq: 3, readAt: 4, expires: 5, reportBy: 6,
	options: wire.MakeOptions(wire.LevelReceived, wire.OverflowReject), frames: 2, isSend: true,
}

// encodeBatch returns the head of a record, and its body of DELIVERs.
func encodeBatch(h batchHead, ids ...uint64) (head, body []byte) {
	for i := range h.frames {
		if h.isSend {
			body = wire.AppendDeliver(body, &wire.Deliver{Sender: h.origin, Seq: h.firstSeq + uint64(i), Body: []byte("x")})
		} else {
			body = wire.AppendRelayDelivery(body, []byte("x"))
		}
	}
	head = appendBatchHead(nil, &h, len(ids), len(body))
	head = wire.AppendIDs(head, ids)
	return head[recordHeaderSize:], body
}

// TestBatchHead_RoundTrip also checks that each prefix fails, and that a longer head is accepted,
// as that of a later version.
func TestBatchHead_RoundTrip(t *testing.T) {
	ids := []uint64{9, 8, 9}
	head, body := encodeBatch(testBatchHead, ids...)
	if want := batchHeadSize + 8*len(ids); len(head) != want {
		t.Errorf("the head has %d bytes, want %d", len(head), want)
	}
	for _, longer := range [][]byte{nil, []byte("field of a later version")} {
		h, receivers, err := parseBatchHead(append(slices.Clone(head), longer...))
		if err != nil || h != testBatchHead || !slices.Equal(receivers.AppendTo(nil), ids) {
			t.Errorf("%+v to %v (%v)", h, receivers, err)
		}
		if err := checkBatch(&h, body); err != nil {
			t.Error(err)
		}
	}
	for n := range head {
		if _, _, err := parseBatchHead(head[:n]); !errors.Is(err, errNonsense) {
			t.Errorf("the first %d bytes: %v, want an error", n, err)
		}
	}
	for n := range body {
		if err := checkBatch(&testBatchHead, body[:n]); !errors.Is(err, errNonsense) {
			t.Errorf("the first %d bytes of the body: %v, want an error", n, err)
		}
	}
	if _, _, err := parseBatchHead(make([]byte, batchHeadSize)); !errors.Is(err, errNonsense) {
		t.Errorf("no receiver: %v, want an error", err)
	}
}

func TestCheckBatch(t *testing.T) {
	_, sends := encodeBatch(testBatchHead, 1)
	v1 := batchHead{origin: 7, frames: 2}
	_, relays := encodeBatch(v1, 1)
	tests := []struct {
		name   string
		change func(h *batchHead)
		base   batchHead
		body   []byte
		ok     bool
	}{
		{"version 2", func(*batchHead) {}, testBatchHead, sends, true},
		{"version 1", func(*batchHead) {}, v1, relays, true},
		{"other sender", func(h *batchHead) { h.origin++ }, testBatchHead, sends, false},
		{"other seq", func(h *batchHead) { h.firstSeq++ }, testBatchHead, sends, false},
		{"other seq without tracking", func(h *batchHead) { h.firstSeq++; h.options, h.expires = 0, 0 }, testBatchHead, sends, true},
		{"too few frames", func(h *batchHead) { h.frames-- }, testBatchHead, sends, false},
		{"too many frames", func(h *batchHead) { h.frames++ }, testBatchHead, sends, false},
		{"no frames", func(h *batchHead) { h.frames = 0 }, testBatchHead, nil, false},
		{"version 1 in version 2", func(*batchHead) {}, testBatchHead, relays, false},
		{"version 2 in version 1", func(*batchHead) {}, v1, sends, false},
		{"unknown overflow policy", func(h *batchHead) { h.options |= 3 << 2 }, testBatchHead, sends, false},
		{"options in version 1", func(h *batchHead) { h.options = 1 }, v1, relays, false},
		{"expiry in version 1", func(h *batchHead) { h.expires = 1 }, v1, relays, false},
		{"reports in version 1", func(h *batchHead) { h.reportBy = 1 }, v1, relays, false},
		{"frame of another type", func(*batchHead) {}, testBatchHead, wire.AppendSkip(wire.AppendSkip(nil)), false},
		{"short DELIVER", func(*batchHead) {}, testBatchHead, []byte{0, 0, 0, 1, byte(wire.TypeDeliver)}, false},
	}
	for _, test := range tests {
		h := test.base
		test.change(&h)
		if err := checkBatch(&h, test.body); (err == nil) != test.ok || err != nil && !errors.Is(err, errNonsense) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// TestRecord_Limits checks that the largest records of this hub fit the limits of the other one.
func TestRecord_Limits(t *testing.T) {
	if size := batchHeadSize + wire.MaxReceivers*wire.IDSize; size > maxHead {
		t.Errorf("a batch to all receivers has a head of %d bytes, the limit is %d", size, maxHead)
	}
	if size := partHeadSize + wire.MaxReceivers; size > maxHead {
		t.Errorf("QUEUED in part has a head of %d bytes, the limit is %d", size, maxHead)
	}
	if size := wire.DeliverLen(wire.MaxBodyLimit); size > maxRecordBody {
		t.Errorf("the largest DELIVER has %d bytes, the limit is %d", size, maxRecordBody)
	}
	if size := wire.ReportLen(wire.MaxReceivers); size > maxControlBody {
		t.Errorf("the largest REPORT has %d bytes, the limit is %d", size, maxControlBody)
	}
	if size := 16 * maxClientsPerRecord; size > maxControlBody {
		t.Errorf("the largest CLIENTS has %d bytes, the limit is %d", size, maxControlBody)
	}
}
