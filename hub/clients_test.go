package hub_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

func TestHub_Client_ReportsCounters(t *testing.T) {
	h := start(t, hub.Config{})
	before := time.Now()
	v1, v2 := h.connectV1(t), h.connectHello(t, wire.Hello{Version: wire.Version2, Name: "boiler room"})
	const messages, size = 5, 100
	for range messages {
		v1.relay(pattern(size, 1), v2.id)
		v2.expectDeliver(v1.id, 0, pattern(size, 1))
	}
	eventually(t, "counted", func() bool { return h.clientInfo(t, v2.id).MessagesOut == 1+messages })

	got := h.clientInfo(t, v1.id)
	want := hub.ClientInfo{
		ID: v1.id, Address: got.Address, Protocol: 1, Since: got.Since,
		MessagesIn: 1 + messages, BytesIn: wire.IdentityRequestLen + messages*uint64(wire.RelayLen(1, size)),
		MessagesOut: 1, BytesOut: wire.IdentityLen,
	}
	if got != want || got.Address.String() != v1.LocalAddr().String() || got.Since.Before(before) || got.Since.After(time.Now()) {
		t.Errorf("version 1: %+v, want %+v", got, want)
	}
	if got := h.clientInfo(t, v2.id); got.Protocol != 2 || got.Name != "boiler room" || got.MessagesIn == 0 || got.BytesIn == 0 || got.Detached {
		t.Errorf("version 2: %+v", got)
	}
	if info, ok := h.Client(999); ok {
		t.Errorf("of an unknown id: %+v", info)
	}
}

// TestHub_ClientFates_CountsReports sends messages with and without a report. ClientFates counts each
// fate of each report once.
func TestHub_ClientFates_CountsReports(t *testing.T) {
	h := start(t, hub.Config{})
	sender, receiver, old := h.connectV2(t), h.connectV2(t), h.connectV1(t)
	const unknown = 999
	sender.sendMessage([]byte("without"), levelOptions(wire.LevelNone), 0, receiver.id)
	receiver.expectDeliver(sender.id, 1, []byte("without"))
	for n := uint64(1); n <= 3; n++ {
		seq := sender.sendMessage([]byte("with"), levelOptions(wire.LevelWritten), 0, receiver.id, unknown, old.id)
		receiver.expectDeliver(sender.id, seq, []byte("with"))
		sender.expectReport(seq, wire.FateWritten, wire.FateUnknown, wire.FateWritten)
		want := map[wire.Fate]uint64{wire.FateWritten: 2 * n, wire.FateUnknown: n}
		if got, ok := h.ClientFates(sender.id); !ok || !maps.Equal(got, want) {
			t.Errorf("after %d reports: %v, %t, want %v", n, got, ok, want)
		}
	}
	for _, id := range []uint64{receiver.id, old.id} {
		if got, ok := h.ClientFates(id); !ok || got == nil || len(got) > 0 {
			t.Errorf("client %d, which sent nothing, has %v, %t", id, got, ok)
		}
	}
	if got, ok := h.ClientFates(unknown); ok {
		t.Errorf("of an unknown id: %v", got)
	}
}

func TestClientInfo_Name_IsBoundedAndPrintable(t *testing.T) {
	h := start(t, hub.Config{})
	for given, want := range map[string]string{
		"":                               "",
		"Köln 7":                         "Köln 7",
		"a\x1b[31mb\nc\u202e":            "a[31mbc",
		strings.Repeat("x", 16_000):      strings.Repeat("x", hub.MaxNameLen),
		"a" + strings.Repeat("ö", 8_000): "a" + strings.Repeat("ö", hub.MaxNameLen/2-1),
	} {
		c := h.connectHello(t, wire.Hello{Version: wire.Version2, Name: given})
		if got := h.clientInfo(t, c.id).Name; got != want {
			t.Errorf("%.40q became %q, want %q", given, got, want)
		}
	}
}

func TestHub_Clients_Pages(t *testing.T) {
	const clients = 150 // more than Hub.Clients looks up at once
	h := start(t, hub.Config{})
	for range clients {
		h.connectV1(t)
	}
	h.connectV1(t).Close()
	h.waitDisconnected(t, hub.CloseLeft, 1)
	for _, limit := range []int{1, 7, 64, 100, clients, clients + 1, 10_000} {
		var got []uint64
		for after := uint64(0); ; {
			page := h.Clients(after, limit)
			for _, info := range page {
				got = append(got, info.ID)
			}
			if len(page) < limit {
				break
			}
			after = page[len(page)-1].ID
		}
		if len(got) != clients || !slices.IsSorted(got) || len(slices.Compact(got)) != clients {
			t.Errorf("pages of %d: got ids %d", limit, got)
		}
	}
	for _, after := range []uint64{0, 1, h.Clients(0, 70)[69].ID, clients + 1} {
		if got, want := slices.Collect(h.ClientsAfter(after)), h.Clients(after, clients); !slices.Equal(got, want) {
			t.Errorf("after %d: %d clients, want %d", after, len(got), len(want))
		}
	}
	for range h.ClientsAfter(0) {
		break
	}
	for _, limit := range []int{0, -1} {
		if page := h.Clients(0, limit); len(page) != 0 {
			t.Errorf("limit %d: %d clients", limit, len(page))
		}
	}
	if page := h.Clients(clients+1, 10); len(page) != 0 {
		t.Errorf("after the last client: %+v", page)
	}
}

// TestClientInfo_QueuedBytes fills the queue of a receiver that does not read. Only the queue
// of that receiver is counted.
func TestClientInfo_QueuedBytes(t *testing.T) {
	h := start(t, hub.Config{StallTimeout: time.Hour})
	sender, receiver := h.connectV1(t), h.connectV1(t).shrinkReadBuffer()
	sender.fillQueue(h, receiver.id)
	if got := h.clientInfo(t, receiver.id).QueuedBytes; got < hub.DefaultOutboxBytes {
		t.Errorf("%d bytes are queued for the receiver whose queue is full", got)
	}
	if got := h.clientInfo(t, sender.id).QueuedBytes; got != 0 {
		t.Errorf("%d bytes are queued for the sender, which receives nothing", got)
	}
	receiver.reset()
}

// TestClientInfo_DetachedAndResumed loses a connection and resumes the session. The client is
// shown as detached in between, and its counters start anew.
func TestClientInfo_DetachedAndResumed(t *testing.T) {
	h := start(t, hub.Config{})
	c := h.connectV2(t)
	since := h.clientInfo(t, c.id).Since
	c.reset()
	eventually(t, "detached", func() bool { return h.clientInfo(t, c.id).Detached })
	again := h.resume(t, c)
	eventually(t, "counted", func() bool { return h.clientInfo(t, again.id).MessagesOut > 0 })
	if info := h.clientInfo(t, again.id); info.ID != c.id || info.Detached || !info.Since.After(since) || info.MessagesIn != 1 {
		t.Errorf("resumed as %+v", info)
	}
}

func TestDisconnect_Version1(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.startBystanders(t)
	c := h.connectV1(t)
	if !h.Disconnect(c.id, true) {
		t.Error("the client was not registered")
	}
	if _, ok := h.Client(c.id); ok || h.Disconnect(c.id, true) {
		t.Error("the client is still registered")
	}
	c.expectEOF()
	h.waitDisconnected(t, hub.CloseDisconnected, 1)
	bystanders.waitRounds(3)
}

func TestDisconnect_GoAway_SaysWhetherToReconnect(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		for _, reconnect := range []bool{false, true} {
			h := tr.start(t, hub.Config{})
			sender, c := h.connectV2(t), h.connectV2(t)
			body := pattern(100, 1)
			seq := sender.sendMessage(body, levelOptions(wire.LevelWritten), 0, c.id)
			sender.expectReport(seq, wire.FateWritten)
			if !h.Disconnect(c.id, reconnect) {
				t.Error("the client was not registered")
			}
			if _, ok := h.Client(c.id); ok || h.Disconnect(c.id, reconnect) {
				t.Error("the client is still registered")
			}
			c.expectDeliver(sender.id, seq, body)
			if away := c.expectGoAway(wire.GoAwayDisconnected); away.Reconnect != reconnect || away.Reason == "" {
				t.Errorf("GOAWAY %+v, want reconnect=%t", away, reconnect)
			}
			if again := h.resume(t, c); again.Resumed || again.ID == c.ID {
				t.Errorf("resumed as %+v", again.Welcome)
			}
			h.waitDisconnected(t, hub.CloseDisconnected, 1)
		}
	})
}

// TestDisconnect_DetachedSession_Ends disconnects a detached session. The session can not be
// resumed afterwards.
func TestDisconnect_DetachedSession_Ends(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{ResumeWindow: time.Hour})
		c := h.connectV2(t)
		c.reset()
		eventually(t, "detached", func() bool { return h.clientInfo(t, c.id).Detached })
		if !h.Disconnect(c.id, false) {
			t.Error("the client was not registered")
		}
		h.waitDisconnected(t, hub.CloseDisconnected, 1)
		if again := h.resume(t, c); again.Resumed {
			t.Errorf("resumed as %+v", again.Welcome)
		}
	})
}

// TestDisconnect_StalledReceiver_Ends disconnects two clients that read nothing and whose
// queues are full: one sends all the time, the other sends nothing.
func TestDisconnect_StalledReceiver_Ends(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{StallTimeout: time.Hour})
		bystanders := h.startBystanders(t)
		sender, c := h.connectV2(t), h.connectV2(t)
		c.shrinkReadBuffer()
		// The function fails when the hub disconnects sender, which sends to c and to itself and
		// reads nothing.
		background(t, func() error {
			for seq := uint64(1); ; seq++ {
				if _, err := sender.Write(wire.AppendSend(nil, seq, 0, 0, []uint64{c.id, sender.id}, pattern(50_000, 1))); err != nil {
					return nil
				}
			}
		})
		eventually(t, "both queues full", func() bool {
			return h.clientInfo(t, c.id).QueuedBytes > 400_000 && h.clientInfo(t, sender.id).QueuedBytes > 400_000
		})
		for _, id := range []uint64{c.id, sender.id} {
			if !h.Disconnect(id, false) {
				t.Errorf("client %d was not registered", id)
			}
		}
		h.waitDisconnected(t, hub.CloseDisconnected, 2)
		bystanders.waitRounds(3)
	})
}

// TestDisconnect_WhileResuming_CountsOnce disconnects sessions that are resumed all the time.
// The hub must count each connection once, which checkEnd verifies. A client that is
// disconnected while it resumes may see no more than EOF.
func TestDisconnect_WhileResuming_CountsOnce(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		parallel(t, 8, func(int) error {
			hello := wire.Hello{Version: wire.Version2}
			for n := range 20 {
				c := h.connect(t)
				if _, err := c.Write(wire.AppendHello(nil, &hello)); err != nil {
					continue
				}
				kind, payload, err := c.readFrame()
				if err != nil || kind != wire.TypeWelcome {
					continue
				}
				w, err := wire.ParseWelcome(payload)
				if err != nil {
					return err
				}
				hello.ID, hello.Resume = w.ID, w.Resume
				if n%3 == 2 {
					go h.Disconnect(w.ID, true) // ends at once
				}
			}
			return nil
		})
	})
}

// TestHub_SendGoAway_SpreadsOverTime sends GOAWAY to four clients over four seconds. A client
// of version 1 and one that connects meanwhile stay until Shutdown.
func TestHub_SendGoAway_SpreadsOverTime(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		v1 := h.connect(t).requestID()
		var clients []*clientV2
		for range 4 {
			clients = append(clients, h.connectV2(t))
			time.Sleep(time.Millisecond) // makes the order of connections clear
		}
		began := time.Now()
		var wg sync.WaitGroup
		for i, c := range clients {
			wg.Go(func() {
				if away := c.expectGoAway(wire.GoAwayShutdown); !away.Reconnect || away.After > 1000 {
					t.Errorf("client %d got %+v, want to reconnect within a second", i, away)
				}
				if took := time.Since(began).Round(maxCloseDelay); took != time.Duration(i)*time.Second {
					t.Errorf("client %d disconnected after %v", i, took)
				}
			})
		}
		wg.Go(func() {
			if err := h.SendGoAway(t.Context(), 4*time.Second); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(1500 * time.Millisecond)
		newcomer := h.connectV2(t)
		wg.Wait()
		v1.fencePromptly()
		if n := h.Stats().Clients; n != 2 {
			t.Errorf("%d clients are left, want 2", n)
		}
		done := make(chan error, 1)
		go func() { done <- h.Shutdown(context.WithoutCancel(t.Context())) }() // ends with the test
		newcomer.expectGoAway(wire.GoAwayShutdown)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := h.Stats().Disconnected[hub.CloseShutdown]; n != 6 {
			t.Errorf("%d disconnected by the shutdown, want 6", n)
		}
	})
}

// maxCloseDelay is how long the end of a connection can take whose client reads, in virtual
// time.
const maxCloseDelay = 500 * time.Millisecond

// TestHub_SendGoAway_DeliversQueued sends GOAWAY to a client that reads late and acknowledges
// nothing.
func TestHub_SendGoAway_DeliversQueued(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		sender, c := h.connectV2(t), h.connectV2(t)
		c.withholdsAcks = true
		body := pattern(16<<10, 1)
		for range 3 {
			sender.sendMessage(body, 0, 0, c.id)
		}
		synctest.Wait()
		if err := h.SendGoAway(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		for seq := range uint64(3) {
			c.expectDeliver(sender.id, seq+1, body)
		}
		c.expectGoAway(wire.GoAwayShutdown)
		acked, gotGoAway := uint64(0), false
		for {
			kind, payload, err := sender.readFrame()
			if err != nil {
				break
			}
			if kind == wire.TypeAck {
				acked, _ = wire.ParseUint64(payload)
			}
			gotGoAway = gotGoAway || kind == wire.TypeGoAway
		}
		if acked != 3 || !gotGoAway {
			t.Errorf("the sender got an ACK for %d SENDs, want 3, and GOAWAY: %t", acked, gotGoAway)
		}
	})
}

func TestHub_SendGoAway_EndsWithContextOrShutdown(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		for range 2 {
			h.connectV2(t)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.SendGoAway(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		h.connectV2(t)
		time.AfterFunc(time.Second, func() { _, _ = h.shutdownTimed(t, time.Minute) })
		if err := h.SendGoAway(t.Context(), time.Hour); !errors.Is(err, hub.ErrClosed) {
			t.Errorf("got %v, want %v", err, hub.ErrClosed)
		}
	})
}
