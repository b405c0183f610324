package relay

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// wireIDs returns ids in wire format.
func wireIDs(ids ...uint64) wire.IDs {
	to := wire.IDs{}
	for _, id := range ids {
		to = binary.BigEndian.AppendUint64(to, id)
	}
	return to
}

// newIDBuf returns space for the ids of all receivers.
func newIDBuf() []uint64 { return make([]uint64, 0, wire.MaxReceivers) }

// testBuilder is a Builder with a buffer of an account.
type testBuilder struct {
	Builder
	budget *body.Budget
}

func newTestBuilder(size int) *testBuilder {
	b := &testBuilder{budget: body.NewBudget(1<<20, 0)}
	b.SetBuf(b.budget.NewAccount(1 << 20).TryAcquire(size))
	return b
}

// used returns the bytes of buffers that were not released.
func (b *testBuilder) used() int64 {
	now, _ := b.budget.Used()
	return now
}

// append appends a delivery of version 1.
func (b *testBuilder) append(to wire.IDs, opts Options, body []byte) {
	b.Append(to, opts, func(buf []byte) []byte { return wire.AppendRelayDelivery(buf, body) })
}

// wantBatch compares a batch with frames.
func wantBatch(t *testing.T, batch outbox.Batch, frames ...[]byte) {
	t.Helper()
	if got := batch.Buffer.Bytes()[batch.From:batch.To]; batch.Frames != len(frames) || !bytes.Equal(got, slices.Concat(frames...)) {
		t.Errorf("a batch of %d frames: %q, want %q", batch.Frames, got, frames)
	}
}

// TestBuilder_Accepts_SameReceiversAndOptions appends one or two messages, and checks which
// further frame can join them.
func TestBuilder_Accepts_SameReceiversAndOptions(t *testing.T) {
	to, opts := wireIDs(1, 2), sendOptions(wire.LevelWritten, wire.OverflowReject)
	expiring := opts
	expiring.Expires = 1
	for name, tt := range map[string]struct {
		to   wire.IDs
		opts Options
		want bool
	}{
		"the same":           {wireIDs(1, 2), opts, true},
		"another order":      {wireIDs(2, 1), opts, false},
		"one receiver less":  {wireIDs(1), opts, false},
		"one receiver more":  {wireIDs(1, 2, 3), opts, false},
		"another level":      {to, sendOptions(wire.LevelReceived, wire.OverflowReject), false},
		"another policy":     {to, sendOptions(wire.LevelWritten, wire.OverflowBlock), false},
		"expires":            {to, expiring, false},
		"version 1":          {to, Options{}, false},
		"a reply":            {nil, Options{}, false},
		"a reply of options": {nil, opts, false},
	} {
		b := newTestBuilder(1000)
		if !b.Accepts(tt.to, tt.opts, newIDBuf) {
			t.Errorf("%s: an empty batch does not accept it", name)
		}
		for frames := 1; frames <= 2; frames++ {
			b.append(to, opts, []byte("x"))
			if got := b.Accepts(tt.to, tt.opts, newIDBuf); got != tt.want {
				t.Errorf("%s: accepted after %d frames: %t, want %t", name, frames, got, tt.want)
			}
		}
		b.Release()
	}
}

// TestBuilder_Accepts_DuplicateReceiverAlone names a client twice, at every position of a long
// list: no second message joins the batch.
func TestBuilder_Accepts_DuplicateReceiverAlone(t *testing.T) {
	ids := make([]uint64, wire.MaxReceivers)
	for i := range ids {
		ids[i] = uint64(i * 7919 % 1000)
	}
	accepts := func(ids []uint64) bool {
		b := newTestBuilder(1000)
		defer b.Release()
		b.append(wireIDs(ids...), Options{}, nil)
		return b.Accepts(wireIDs(ids...), Options{}, newIDBuf)
	}
	if !accepts(ids) || !accepts(ids[:1]) {
		t.Error("receivers that differ do not form a batch")
	}
	for i := 1; i < len(ids); i++ {
		duplicates := slices.Clone(ids)
		duplicates[i] = ids[(i*31)%i]
		if accepts(duplicates) {
			t.Fatalf("receiver %d is a duplicate, and another message joins the batch", i)
		}
	}
	if accepts([]uint64{5, 5}) {
		t.Error("a receiver named twice, and another message joins the batch")
	}
}

// TestBuilder_Replies_NoMessages appends replies and messages: which of both a batch has is
// reported, and replies join without a look at receivers.
func TestBuilder_Replies_NoMessages(t *testing.T) {
	b := newTestBuilder(1000)
	defer b.Release()
	noBuf := func() []uint64 { t.Error("replies have no receivers to compare"); return nil }
	for range 3 {
		if !b.Accepts(nil, Options{}, noBuf) {
			t.Error("a reply does not join replies")
		}
		b.append(nil, Options{}, []byte("reply"))
	}
	if b.HasMessages() || b.Frames() != 3 {
		t.Errorf("%d frames, messages: %t, want 3 replies", b.Frames(), b.HasMessages())
	}
	batch, receivers, _ := b.Take()
	if batch.Messages || receivers != nil {
		t.Errorf("replies are messages: %t, to %v", batch.Messages, receivers)
	}
	b.append(wireIDs(1), Options{}, []byte("message"))
	if !b.HasMessages() {
		t.Error("a message is no message")
	}
	if batch, receivers, _ = b.Take(); !batch.Messages || !bytes.Equal(receivers, wireIDs(1)) {
		t.Errorf("a message is a message: %t, to %v", batch.Messages, receivers)
	}
}

// TestBuilder_Take_ContinuesBehind takes batches of several sizes: each begins where the one before
// ends, and those that were taken keep their frames.
func TestBuilder_Take_ContinuesBehind(t *testing.T) {
	b := newTestBuilder(1000)
	defer b.Release()
	var batches []outbox.Batch
	for i, body := range []string{"first", "second", "third"} {
		to, opts := wireIDs(uint64(i)), sendOptions(wire.Level(i), wire.OverflowBlock)
		for range i + 1 {
			b.append(to, opts, []byte(body))
		}
		if b.Frames() != i+1 {
			t.Errorf("%d frames, want %d", b.Frames(), i+1)
		}
		batch, gotTo, gotOpts := b.Take()
		if !bytes.Equal(gotTo, to) || gotOpts != opts || b.Frames() != 0 || b.HasMessages() {
			t.Errorf("took a batch to %v with %+v, and left %d frames", gotTo, gotOpts, b.Frames())
		}
		batches = append(batches, batch)
	}
	for i, body := range []string{"first", "second", "third"} {
		wantBatch(t, batches[i], slices.Repeat([][]byte{wire.AppendRelayDelivery(nil, []byte(body))}, i+1)...)
		if i > 0 && batches[i].From != batches[i-1].To {
			t.Errorf("batch %d begins at %d, want %d", i, batches[i].From, batches[i-1].To)
		}
	}
}

// TestBuilder_HasRoom_RestOfBuffer fills a buffer to the last byte.
func TestBuilder_HasRoom_RestOfBuffer(t *testing.T) {
	var zero Builder
	if zero.HasRoom(0) || zero.Frames() != 0 || zero.HasMessages() {
		t.Error("the zero value has room or frames")
	}
	b := newTestBuilder(1000)
	size := len(b.buf.Bytes())
	if !b.HasRoom(size) || b.HasRoom(size+1) {
		t.Errorf("an unused buffer of %d bytes has not room for as many", size)
	}
	for rest := size; rest > 0; rest -= size / 8 {
		if !b.HasRoom(rest) || b.HasRoom(rest+1) {
			t.Errorf("%d bytes are left, and have not room for as many", rest)
		}
		b.append(wireIDs(1), Options{}, make([]byte, size/8-wire.RelayDeliveryLen(0)))
		b.Take()
	}
	if b.HasRoom(1) {
		t.Error("a full buffer has room")
	}
	b.Release()
}

// TestBuilder_Release_ReturnsMemory sets one buffer after the other, and releases the last. A
// queue that has retained a batch keeps its buffer.
func TestBuilder_Release_ReturnsMemory(t *testing.T) {
	b := newTestBuilder(1000)
	account := b.budget.NewAccount(1 << 20)
	b.append(wireIDs(1), Options{}, []byte("kept"))
	batch, _, _ := b.Take()
	batch.Buffer.Retain()
	one := b.used()
	b.SetBuf(account.TryAcquire(1000))
	if b.used() != 2*one || b.Frames() != 0 {
		t.Errorf("%d bytes are used, want those of two buffers of %d", b.used(), one)
	}
	wantBatch(t, batch, wire.AppendRelayDelivery(nil, []byte("kept")))
	batch.Buffer.Release()
	b.SetBuf(account.TryAcquire(1000))
	if b.used() != one {
		t.Errorf("%d bytes are used after two more buffers, want %d", b.used(), one)
	}
	b.Release()
	b.Release()
	if b.used() != 0 || b.HasRoom(0) {
		t.Errorf("%d bytes are used after the release", b.used())
	}
}
