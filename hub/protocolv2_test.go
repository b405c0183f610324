package hub_test

import (
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// bodySizes are lengths of bodies that the hub handles in different ways: copied behind other
// frames, referred to in a read buffer, and held in a buffer of their own.
var bodySizes = []int{0, 1, 100, 5000, 60_000, 100_000, 1 << 20}

func TestProtocolV2_BothVersions_Interoperate(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		sender, v2, v1 := h.connectV2(t), h.connectV2(t), h.connectV1(t)
		for i, size := range bodySizes {
			body := pattern(size, byte(i))
			seq := sender.sendMessage(body, 0, 0, v2.id, v1.id)
			d := v2.expectDeliver(sender.id, seq, body)
			if age := time.Since(time.UnixMicro(int64(d.Time))); age < -time.Second || age > testTimeout {
				t.Errorf("time of a message that was just sent: %v ago", age)
			}
			v1.expectRelay(body)

			v1.relay(body, v2.id, v1.id)
			v2.expectDeliver(v1.id, 0, body)
			v1.expectRelay(body)

			sender.relay(body, v2.id, sender.id) // frames of version 1 stay valid
			v2.expectDeliver(sender.id, 0, body)
			sender.expectDeliver(sender.id, 0, body)

			// The header of this DELIVER exactly fits into the space before the body.
			seq = sender.sendMessage(body, 0, 0, v2.id)
			v2.expectDeliver(sender.id, seq, body)
		}
	})
}

func TestProtocolV2_MalformedFrame_GetsGoAway(t *testing.T) {
	send := func(count byte, ids int) []byte {
		frame := wire.AppendSend(nil, 1, 0, 0, make([]uint64, ids), nil)
		frame[wire.HeaderSize+16] = count
		return frame
	}
	for _, test := range []struct {
		name string
		say  []byte
	}{
		{"SEND shorter than its receiver count", send(3, 2)},
		{"SEND with unknown options", wire.AppendSend(nil, 1, 1<<7, 0, []uint64{1}, nil)},
		{"SEND without a header", []byte{0, 0, 0, 2, byte(wire.TypeSend), 1}},
		{"ACK of a frame that was never sent", wire.AppendAck(nil, 1)},
		{"ACK with half a number", []byte{0, 0, 0, 3, byte(wire.TypeAck), 1, 2}},
		{"VERDICT with half an entry", []byte{0, 0, 0, 3, byte(wire.TypeVerdict), 1, 2}},
		{"VERDICT with a fate that is no verdict", wire.AppendVerdicts(nil, []wire.Verdict{{Sender: 1, Seq: 1, Fate: wire.FateGone}})},
		{"PING without a number", []byte{0, 0, 0, 1, byte(wire.TypePing)}},
		{"LIST_RANGE too short", []byte{0, 0, 0, 2, byte(wire.TypeListRange), 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			onAllTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, hub.Config{})
				bystanders := h.startBystanders(t)
				c := h.connectV2(t)
				c.send(test.say)
				if away := c.expectGoAway(wire.GoAwayProtocol); away.Reconnect || away.Reason == "" {
					t.Errorf("GOAWAY %+v", away)
				}
				h.waitDisconnected(t, hub.CloseMalformed, 1)
				bystanders.waitRounds(2)

			})
		})
	}
}

func TestError_Connection_StaysOpen(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MaxBody: 1000})
		c := h.connectV2(t)
		c.sendMessage([]byte("x"), 0, 0, c.id)
		c.expectDeliver(c.id, 1, []byte("x"))
		for _, test := range []struct {
			say  []byte
			seq  uint64
			code wire.ErrorCode
		}{
			{wire.AppendSend(nil, 1, 0, 0, nil, nil), 1, wire.ErrorSeq},
			{wire.AppendSend(nil, 2, 0, 0, []uint64{c.id}, make([]byte, 1001)), 2, wire.ErrorBody},
			{wire.AppendHello(nil, &wire.Hello{Version: 2}), 0, wire.ErrorFrame},
			{wire.AppendReport(nil, 1, nil), 0, wire.ErrorFrame},
		} {
			c.send(test.say)
			kind, payload := c.nextFrame()
			e, err := wire.ParseError(payload)
			if kind != wire.TypeError || err != nil || e.Seq != test.seq || e.Code != test.code || len(e.Text) == 0 {
				t.Errorf("type %#x, %+v, %v; want code %d for %d", kind, e, err, test.code, test.seq)
			}
		}
		c.awaitPong()
	})
}

// TestProtocolV2_RelaysBeyondWindow_AreDelivered has a client of version 2 send relays of
// version 1 to itself, more than its window of unacknowledged bytes.
func TestProtocolV2_RelaysBeyondWindow_AreDelivered(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{OutboxBytes: 4 << 10})
		c := h.connectV2(t)
		body := pattern(1<<20, 1)
		const messages = 5
		background(t, func() error {
			var frames []byte
			for range messages {
				frames = wire.AppendRelay(frames, []uint64{c.id}, body)
			}
			_, err := c.Write(frames)
			return err
		})
		for range messages {
			c.expectDeliver(c.id, 0, body)
		}
	})
}
