package client_test

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// drawClient draws a client for which ok returns true.
func (md *model) drawClient(t *rapid.T, ok func(*modelClient) bool) *modelClient {
	var candidates []*modelClient
	for _, mc := range md.clients {
		if ok(mc) {
			candidates = append(candidates, mc)
		}
	}
	if len(candidates) == 0 {
		t.Skip("no client fits")
	}
	return candidates[rapid.IntRange(0, len(candidates)-1).Draw(t, "client")]
}

// addClient adds a v2 client.
func (md *model) addClient(t *rapid.T) {
	if len(md.clients) >= 10 {
		t.Skip("there are enough clients")
	}
	md.connect(t, &modelClient{usesOnMessage: rapid.IntRange(0, 3).Draw(t, "prompt") == 0})
}

// send sends a message to some other clients, to the sender itself, to unknown ids, to clients
// that have left, and to one client twice.
func (md *model) send(t *rapid.T) {
	from := md.drawClient(t, (*modelClient).active)
	msg := &modelMessage{from: from, deliveries: make(map[*modelClient]*modelDelivery)}
	size := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(0, 100_000)).Draw(t, "bytes")
	for _, i := range rapid.SliceOfN(rapid.IntRange(-1, len(md.clients)-1), 0, 5).Draw(t, "to") {
		if i < 0 {
			msg.to = append(msg.to, nil)
			continue
		}
		to := md.clients[i]
		msg.to = append(msg.to, to)
		if msg.deliveries[to] == nil {
			msg.deliveries[to] = &modelDelivery{message: msg}
		}
		msg.deliveries[to].copies++
		if to.v1 {
			size = max(size, bodyHeaderLen)
		}
	}
	if !from.v1 && rapid.IntRange(0, 3).Draw(t, "reported") > 0 {
		msg.options = drawOptions(t)
	}
	msg.body = makeBody(from.index, len(md.messages), size)
	md.mu.Lock()
	md.messages = append(md.messages, msg)
	md.mu.Unlock()
	from.jobs <- msg
}

// drawOptions draws SendOptions; few of them allow the loss of messages.
func drawOptions(t *rapid.T) *client.SendOptions {
	o := &client.SendOptions{Level: rapid.SampledFrom([]wire.Level{
		wire.LevelWritten, wire.LevelReceived, wire.LevelProcessed,
	}).Draw(t, "level")}
	switch rapid.IntRange(0, 9).Draw(t, "may be lost") {
	case 0:
		o.Overflow = wire.OverflowReject
	case 1:
		o.Overflow = wire.OverflowDropOldest
	case 2:
		o.TTL = time.Duration(rapid.IntRange(1, 100).Draw(t, "ttl")) * time.Millisecond
	}
	return o
}

// receive makes a client receive some messages and give verdicts on them.
func (md *model) receive(t *rapid.T) {
	mc := md.drawClient(t, (*modelClient).usesReceive)
	verdict := rapid.SampledFrom([]wire.Fate{0, wire.FateProcessed, wire.FateRejected}).Draw(t, "say")
	mc.receive(rapid.IntRange(1, 20).Draw(t, "most"), verdict)
}

// cut breaks the connection of a client.
func (md *model) cut(t *rapid.T) {
	mc := md.drawClient(t, func(mc *modelClient) bool { return mc.canDisconnect() && !mc.offline })
	mc.cut(rapid.Bool().Draw(t, "reset"))
}

// goOffline breaks a connection, and makes dials wait until goOnline.
func (md *model) goOffline(t *rapid.T) {
	mc := md.drawClient(t, func(mc *modelClient) bool { return mc.canDisconnect() && !mc.offline })
	mc.offline = true
	<-mc.online
	mc.cut(true)
}

func (md *model) goOnline(t *rapid.T) {
	mc := md.drawClient(t, func(mc *modelClient) bool { return mc.canDisconnect() && mc.offline })
	mc.goOnline()
}

// waitReconnect waits until a client has reconnected.
func (md *model) waitReconnect(t *rapid.T) {
	mc := md.drawClient(t, func(mc *modelClient) bool { return mc.canDisconnect() && !mc.offline })
	mc.waitReconnect(t)
}

// leave closes a client, which may still have many messages to send.
func (md *model) leave(t *rapid.T) {
	mc := md.drawClient(t, func(mc *modelClient) bool { return mc.canDisconnect() && !mc.offline && mc.index > 1 })
	mc.waitReconnect(t) // otherwise the hub would not get BYE
	mc.leave()
}

// list makes a client call List. The reply may come only when the client receives messages.
func (md *model) list(t *rapid.T) {
	mc := md.drawClient(t, (*modelClient).active)
	clients := slices.Clone(md.clients)
	gone := make(map[*modelClient]bool)
	md.mu.Lock()
	for _, other := range clients {
		gone[other] = other.left
	}
	md.pendingLists++
	md.mu.Unlock()
	md.wg.Go(func() { // ends when all clients receive
		ids, err := mc.client.List(md.ctx)
		md.mu.Lock()
		defer md.mu.Unlock()
		md.pendingLists--
		if err != nil {
			if !mc.leaving && md.ctx.Err() == nil {
				md.addProblem("client %d: List: %v", mc.index, err)
			}
			return
		}
		for _, other := range clients {
			if listed := slices.Contains(ids, other.id); other != mc && (listed && gone[other] || !listed && !other.leaving) {
				md.addProblem("client %d: client %d is listed: %v", mc.index, other.index, listed)
			}
		}
	})
}
