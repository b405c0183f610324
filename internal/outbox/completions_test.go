package outbox

import (
	"bytes"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// lossReader is an EventHandler that reads a batch which was not delivered.
type lossReader struct {
	batch *Batch
	lost  []byte
	used  int64 // bytes of the budget in use at EventWritten
	conn  *testConn
}

func (l *lossReader) HandleEvent(_ int, event Event, _, _ int) {
	switch event {
	case EventLost, EventUnacked, EventExpired, EventDropped:
		l.lost = bytes.Clone(l.batch.Buffer.Bytes()[l.batch.From:l.batch.To])
	case EventWritten:
		l.used = used(l.conn.batchBudget.Budget)
	}
}

// TestCompletions_LossBeforeRelease loses a batch in each way: its handler can read the bytes,
// and the memory is released afterwards.
func TestCompletions_LossBeforeRelease(t *testing.T) {
	for _, test := range []struct {
		name string
		lose func(tc *testConn, options *Options)
	}{
		{"closed", func(tc *testConn, _ *Options) { tc.Close() }},
		{"retracted", func(tc *testConn, options *Options) { tc.Retract(options) }},
		{"dropped", func(tc *testConn, _ *Options) {
			next := tc.newBatch(frame(5000))
			next.Reliable, next.Options = true, &Options{Overflow: OverflowDropOldest}
			tc.Offer(next, new(Flusher))
			next.Buffer.Release()
			tc.Close()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tc := newTestConn(t, memory, Config{MaxBytes: 5000})
			tc.EnableAcks(1<<20, true)
			tc.Detach() // nothing is written
			f := wire.AppendDeliver(nil, &wire.Deliver{Seq: 7, Body: frame(5000)})
			handler := &lossReader{batch: tc.newBatch(f), conn: tc}
			handler.batch.Reliable = true
			handler.batch.Options = &Options{Events: handler, Overflow: OverflowDropOldest, Expires: 1 << 62}
			tc.Offer(handler.batch, new(Flusher))
			handler.batch.Buffer.Release()
			test.lose(tc, handler.batch.Options)
			if !bytes.Equal(handler.lost, f) {
				t.Errorf("the handler has read %d bytes, want the %d of the batch", len(handler.lost), len(f))
			}
			if n := used(tc.batchBudget.Budget); n != 0 {
				t.Errorf("%d bytes are still held", n)
			}
			tc.Close()
		})
	}
}

// TestCompletions_ReleaseBeforeWritten checks that the memory of written frames is released
// when their handler is called.
func TestCompletions_ReleaseBeforeWritten(t *testing.T) {
	tc := newTestConn(t, memory, Config{MaxBytes: 1 << 20})
	handler := &lossReader{batch: tc.newBatch(frame(5000)), conn: tc, used: -1}
	handler.batch.Options = &Options{Events: handler}
	fl := tc.newFlusher()
	tc.Offer(handler.batch, fl)
	handler.batch.Buffer.Release()
	fl.Reset() // writes directly
	tc.Close()
	tc.Wait()
	if handler.used != 0 {
		t.Errorf("%d bytes were held at EventWritten", handler.used)
	}
}
