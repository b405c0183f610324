package cluster

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// receiverTest is a receiver of batches for clients 1 to 4.
type receiverTest struct {
	*testing.T
	receiver
	stream *fakeStream
	budget *body.Budget
	dests  map[uint64]*testDest
	number uint64
}

// inReceiverTest runs a test in virtual time, with a budget of memory.
func inReceiverTest(t *testing.T, budget int64, test func(rt *receiverTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rt := &receiverTest{T: t, stream: newFakeStream(), budget: body.NewBudget(budget, 0), dests: make(map[uint64]*testDest)}
		config := testConfig(nil)
		for id := range uint64(4) {
			rt.dests[id+1] = &testDest{id: id + 1}
			config.Registry.Join(id+1, rt.dests[id+1])
		}
		config.NewAccount = func() *body.Account { return rt.budget.NewAccount(budget) }
		rt.init(rt.stream, rt.stream, &config, minWindow)
		test(rt)
		for _, d := range rt.dests {
			d.unblock()
			d.write()
		}
		rt.reset()
		pass(2 * time.Second) // the timers of trackers
		if used, _ := rt.budget.Used(); used != 0 || rt.isOverfull() || len(rt.oldReserves) > 0 {
			t.Errorf("%d bytes are not released, and %d old reserves", used, len(rt.oldReserves))
		}
	})
}

// batch has a batch of one message arrive, with a body of size bytes.
func (rt *receiverTest) batch(size int, level wire.Level, to ...uint64) error {
	rt.number++
	h := batchHead{number: rt.number, origin: 7, firstSeq: rt.number, options: wire.MakeOptions(level, wire.OverflowBlock), frames: 1, isSend: true}
	if level != wire.LevelNone {
		h.reportBy = rt.stream.Now() + 1e6
	}
	frame := wire.AppendDeliver(nil, &wire.Deliver{Sender: 7, Seq: rt.number, Body: make([]byte, size)})
	head := wire.AppendIDs(appendBatchHead(nil, &h, len(to), len(frame)), to)[recordHeaderSize:]
	rt.begin()
	defer rt.finish()
	p, err := rt.beginBatch(head, len(frame))
	if err != nil {
		return err
	}
	copy(p, frame)
	return rt.endBatch(p)
}

func (rt *receiverTest) mustBatch(size int, to ...uint64) {
	rt.Helper()
	if err := rt.batch(size, wire.LevelNone, to...); err != nil {
		rt.Fatal(err)
	}
}

// wantReplies checks what was said since the last call: ranges of numbers that are queued, and
// the heads of those that are queued in part.
func (rt *receiverTest) wantReplies(queued [][2]uint64, parts ...[]byte) {
	rt.Helper()
	var gotQueued [][2]uint64
	var gotParts [][]byte
	for _, r := range rt.stream.take(rt) {
		switch r.recordType {
		case recordQueued:
			gotQueued = append(gotQueued, [2]uint64{binary.BigEndian.Uint64(r.head), binary.BigEndian.Uint64(r.head[8:])})
		case recordPartQueued:
			gotParts = append(gotParts, r.head)
		}
	}
	if !slices.Equal(gotQueued, queued) || !slices.EqualFunc(gotParts, parts, slices.Equal[[]byte]) {
		rt.Errorf("queued are %v, and in part %v, want %v and %v", gotQueued, gotParts, queued, parts)
	}
}

func TestReceiver_OffersAndSaysSo(t *testing.T) {
	inReceiverTest(t, 1<<20, func(rt *receiverTest) {
		for range 3 {
			rt.mustBatch(10, 1, 2)
		}
		rt.wantReplies(nil)
		pass(gatherDelay)
		rt.wantReplies([][2]uint64{{1, 3}})
		rt.mustBatch(minUnsaid, 1)
		rt.wantReplies([][2]uint64{{4, 4}}) // without a delay
		if n := len(rt.dests[1].data); n != 4 {
			t.Errorf("client 1 gets %d batches", n)
		}
	})
}

// TestReceiver_PartQueued has two of three receivers block a batch.
func TestReceiver_PartQueued(t *testing.T) {
	inReceiverTest(t, 1<<20, func(rt *receiverTest) {
		rt.dests[1].full, rt.dests[3].full = true, true
		rt.mustBatch(10, 1, 2, 3)
		pass(gatherDelay)
		rt.wantReplies(nil, acceptedHead(1, 1))
		rt.dests[3].unblock()
		pass(gatherDelay)
		rt.wantReplies(nil, partQueuedHead(1, 2))
		rt.mustBatch(10, 2)
		rt.dests[1].unblock()
		pass(gatherDelay)
		rt.wantReplies([][2]uint64{{2, 2}, {1, 1}})
	})
}

// TestReceiver_Reports_ComeBack has the reports in the order of the receivers.
func TestReceiver_Reports_ComeBack(t *testing.T) {
	inReceiverTest(t, 1<<20, func(rt *receiverTest) {
		if err := rt.batch(10, wire.LevelWritten, 1, 9, 2); err != nil {
			t.Fatal(err)
		}
		rt.dests[2].write()
		rt.dests[1].write()
		pass(gatherDelay)
		var fates []testRecord
		for _, r := range rt.stream.take(t) {
			if r.recordType == recordFates {
				fates = append(fates, r)
			}
		}
		want := wire.AppendReport(nil, 1, []byte{byte(wire.FateWritten), byte(wire.FateUnknown), byte(wire.FateWritten)})
		if len(fates) != 1 || !slices.Equal(fates[0].head, fatesHead(1)) || !slices.Equal(fates[0].body, want) {
			t.Errorf("%+v, want %v", fates, want)
		}
	})
}

// TestReceiver_Reserve_HoldsBackOnlyItsOwn has no memory but the reserve. A batch there that a
// receiver blocks does not keep others from being said to be queued once they are written.
func TestReceiver_Reserve_HoldsBackOnlyItsOwn(t *testing.T) {
	inReceiverTest(t, 1<<20, func(rt *receiverTest) {
		rt.dests[1].full = true
		rt.mustBatch(900<<10, 1) // in the budget
		rt.mustBatch(900<<10, 1) // in the reserve
		rt.mustBatch(200<<10, 2)
		rt.mustBatch(200<<10, 3)
		pass(time.Second)
		rt.wantReplies(nil, acceptedHead(1))
		rt.dests[3].write()
		pass(time.Second)
		rt.wantReplies([][2]uint64{{4, 4}})
		rt.dests[2].write()
		pass(time.Second)
		rt.wantReplies([][2]uint64{{3, 3}})
		rt.dests[1].unblock()
		pass(time.Second)
		rt.wantReplies([][2]uint64{{1, 1}}) // the memory of 2 is still that of the reserve
		rt.dests[1].write()
		pass(time.Second)
		rt.wantReplies([][2]uint64{{2, 2}})
	})
}

// TestReceiver_Reserve_OfEarlierGenerations has receivers block a window of each generation. None
// of them breaks the next one, until there are too many: then nothing is accepted.
func TestReceiver_Reserve_OfEarlierGenerations(t *testing.T) {
	inReceiverTest(t, 1, func(rt *receiverTest) {
		rt.mustBatch(1, 4) // fills the budget
		rt.dests[1].full = true
		generations := 0
		for ; !rt.isOverfull() && generations < 10; generations++ {
			for range 4 {
				rt.mustBatch(minWindow/4, 1)
			}
			rt.reset()
			rt.stream.take(t)
		}
		if generations < maxReserves/2 || generations > maxReserves+1 {
			t.Errorf("the memory of %d generations is too much", generations)
		}
		rt.dests[1].unblock()
		pass(time.Second)
		rt.wantReplies(nil) // of earlier generations, nothing is said
		rt.dests[1].write()
		if rt.isOverfull() {
			t.Error("nothing is accepted after the memory is released")
		}
		rt.number = 0
		rt.mustBatch(10, 2)
		pass(gatherDelay)
		rt.dests[2].write()
		pass(time.Second)
		rt.wantReplies([][2]uint64{{1, 1}})
	})
}

// TestReceiver_IsOverfullDuringBreak has a frame come while Run of the link begins a generation.
// The race detector is the check.
func TestReceiver_IsOverfullDuringBreak(t *testing.T) {
	inReceiverTest(t, 1, func(rt *receiverTest) {
		rt.mustBatch(1, 4) // fills the budget
		rt.dests[1].full = true
		rt.mustBatch(10, 1)
		var frames sync.WaitGroup
		frames.Go(func() {
			for range 100 {
				rt.isOverfull()
			}
		})
		rt.reset()
		frames.Wait()
	})
}

func TestReceiver_Nonsense(t *testing.T) {
	inReceiverTest(t, 1, func(rt *receiverTest) {
		rt.mustBatch(1, 1)
		rt.number = 0
		again := rt.batch(1, wire.LevelNone, 1)
		rt.number = 10
		tooLarge := rt.batch(minWindow, wire.LevelNone, 1)
		rt.dests[1].full = true
		var tooMany error
		for range 3 * maxReserves {
			if tooMany == nil {
				tooMany = rt.batch(minWindow/2, wire.LevelNone, 1)
			}
		}
		_, short := rt.beginBatch(make([]byte, 3), 0)
		for name, err := range map[string]error{"number twice": again, "above the window": tooLarge, "windows": tooMany, "head": short} {
			if !errors.Is(err, errNonsense) {
				t.Errorf("%s: %v, want an error", name, err)
			}
		}
	})
}

// TestReceiver_ResetInABatch ends the generation in the middle of a batch.
func TestReceiver_ResetInABatch(t *testing.T) {
	inReceiverTest(t, 1<<20, func(rt *receiverTest) {
		head, frames := encodeBatch(testBatchHead, 1)
		if _, err := rt.beginBatch(head, len(frames)); err != nil {
			t.Fatal(err)
		}
		rt.reset()
		rt.mustBatch(1, 1)
		if n := len(rt.dests[1].data); n != 1 {
			t.Errorf("client 1 gets %d batches", n)
		}
	})
}

// TestReceiver_StrangeTimes limits the times that another hub gives.
func TestReceiver_StrangeTimes(t *testing.T) {
	inReceiverTest(t, 1<<20, func(rt *receiverTest) {
		now := time.Now().UnixNano()
		for _, at := range []int64{-1 << 63, -1, 1, rt.stream.Now(), 1<<63 - 1} {
			if got := rt.localExpiry(at); got < now-int64(maxWait) || got > now+int64(maxWait) {
				t.Errorf("time %d is %d", at, got)
			}
		}
		if rt.localExpiry(0) != 0 || rt.localExpiry(rt.stream.Now()+5) != now+5000 {
			t.Error("the times are not translated")
		}
	})
}
