package client

import (
	"bytes"
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// TestVerdicts_ResentUntilConfirmed sends verdicts again on the next connection, until a PONG
// has confirmed them.
func TestVerdicts_ResentUntilConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(deliverFrame(1, wire.DeliverWantAck|wire.DeliverWantVerdict), deliverFrame(2, wire.DeliverWantAck|wire.DeliverWantVerdict))
		receive := func(f func(Message)) {
			m, err := tc.client.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			f(m)
		}
		receive(Message.Ack)
		first := wire.AppendVerdicts(nil, []wire.Verdict{{Sender: 1, Seq: 1, Fate: wire.FateProcessed}})
		h.wantBytes(first)
		h.Close()
		tc.wantEvent(EventDisconnected)
		receive(Message.Nak)
		h = <-tc.hubs
		hello, _ := h.wantType(wire.TypeHello) // the second message may be received by now
		h.wantType(wire.TypeIdentity)
		h.send(wire.AppendWelcome(nil, new(resumedWelcome(func(*wire.Welcome) {}))), wire.AppendIdentity(nil, 7))
		tc.wantEvent(EventResumed)
		h.wantBytes(wire.AppendVerdicts(nil, []wire.Verdict{
			{Sender: 1, Seq: 1, Fate: wire.FateProcessed}, {Sender: 1, Seq: 2, Fate: wire.FateRejected},
		}))
		for want := 2; want > 0; want-- { // in either order, or together
			kind, payload, err := h.readFrame()
			switch {
			case err == nil && kind == wire.TypePing && bytes.Equal(payload, []byte{7: 3}): // 2 verdicts
				h.send(wire.AppendPong(nil, 3))
				want -= bytes.Count(hello, []byte(`"received":"2"`))
			case err == nil && kind == wire.TypeAck && bytes.Equal(payload, []byte{7: 2}):
			default:
				t.Fatalf("a frame of type %d: % x (%v)", kind, payload, err)
			}
		}
		synctest.Wait()
		if unconfirmed, confirmed := tc.client.session.verdicts.hasUnconfirmed(); unconfirmed || confirmed != 2 {
			t.Errorf("%d verdicts are confirmed, unconfirmed ones left: %v", confirmed, unconfirmed)
		}
	})
}

// TestVerdicts_ConfirmedWhileSending: an ACK of the hub does not confirm verdicts.
func TestVerdicts_ConfirmedWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(deliverFrame(1, wire.DeliverWantAck|wire.DeliverWantVerdict))
		wantMessage(t, tc.client, "1").Ack()
		h.wantType(wire.TypeVerdict)
		for seq := uint64(1); seq < 100; seq++ {
			if err := tc.client.Send(t.Context(), []uint64{1}, nil); err != nil {
				t.Fatal(err)
			}
			for {
				kind, payload, err := h.readFrame()
				if err != nil {
					t.Fatal(err)
				}
				if kind == wire.TypePing {
					h.send(wire.AppendPong(nil, binary.BigEndian.Uint64(payload)))
					synctest.Wait()
					if unconfirmed, _ := tc.client.session.verdicts.hasUnconfirmed(); unconfirmed {
						t.Error("a confirmed verdict is kept")
					}
					return
				}
				if kind == wire.TypeSend {
					break
				}
			}
			h.send(wire.AppendAck(nil, seq))
			time.Sleep(ackDelay / 2)
		}
		t.Error("the verdicts are not confirmed by a probe")
	})
}

// TestVerdicts_DroppedForNewSession: in another session the verdicts would mean other messages.
func TestVerdicts_DroppedForNewSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		processed := wire.DeliverWantAck | wire.DeliverWantVerdict
		h.send(deliverFrame(1, processed))
		old := wantMessage(t, tc.client, "1")
		h.Close()
		tc.wantEvent(EventDisconnected)
		h = <-tc.hubs
		text, _ := h.wantType(wire.TypeHello)
		h.wantType(wire.TypeIdentity)
		if _, err := wire.ParseHello(text); err != nil {
			t.Error(err)
		}
		h.sendWelcome(testWelcome)
		tc.wantEvent(EventNewID)
		h.send(deliverFrame(2, processed))
		young := wantMessage(t, tc.client, "2")
		old.Ack()
		young.Nak()
		for {
			kind, payload, err := h.readFrame()
			if err != nil {
				t.Fatal(err)
			}
			if kind == wire.TypeVerdict {
				if want := wire.AppendVerdicts(nil, []wire.Verdict{{Sender: 1, Seq: 2, Fate: wire.FateRejected}})[wire.HeaderSize:]; !bytes.Equal(payload, want) {
					t.Errorf("VERDICT % x, want % x", payload, want)
				}
				return
			}
		}
	})
}
