package client_test

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/cluster/membus"
	"github.com/sechlol/go-message-hub/wire"
)

// actions returns the actions of a run, by their names.
func (md *model) actions() map[string]func(*rapid.T) {
	actions := map[string]func(*rapid.T){
		"send":    md.send,
		"sends":   md.send, // more frequent than the others
		"receive": md.receive,
		"cut":     md.cut,
		"down":    md.goOffline,
		"up":      md.goOnline,
		"settle":  md.waitReconnect,
		"leave":   md.leave,
		"join":    md.addClient,
		"list":    md.list,
		"":        md.check,
	}
	if len(md.hubs) > 1 {
		actions["move"], actions["bus"], actions["burst"] = md.move, md.setFaults, md.burst
	}
	return actions
}

// drawHub draws one of the hubs.
func (md *model) drawHub(t *rapid.T) *modelHub {
	return md.hubs[rapid.IntRange(0, len(md.hubs)-1).Draw(t, "hub")]
}

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
func (md *model) send(t *rapid.T) { md.sendCopies(t, 1, 0) }

// burst sends more than the outbox of a receiver and a small window hold: the receivers block it.
// The sender is not among them: closing, it would wait for its own acknowledgements.
func (md *model) burst(t *rapid.T) { md.sendCopies(t, 20, 2000) }

// sendCopies sends messages of at least minSize bytes, with other bodies and the same receivers and
// options.
func (md *model) sendCopies(t *rapid.T, messages, minSize int) {
	from := md.drawClient(t, (*modelClient).active)
	size := rapid.OneOf(rapid.IntRange(minSize, minSize+300), rapid.IntRange(minSize, 100_000)).Draw(t, "bytes")
	var to []*modelClient
	for _, i := range rapid.SliceOfN(rapid.IntRange(-1, len(md.clients)-1), 0, 5).Draw(t, "to") {
		if i < 0 || messages > 1 && md.clients[i] == from {
			to = append(to, nil)
			continue
		}
		to = append(to, md.clients[i])
		if md.clients[i].v1 {
			size = max(size, bodyHeaderLen)
		}
	}
	var options *client.SendOptions
	if !from.v1 && rapid.IntRange(0, 3).Draw(t, "reported") > 0 {
		options = drawOptions(t)
	}
	for range messages {
		md.queue(newModelMessage(from, to, options), size)
	}
}

// queue gives a message of size bytes to the goroutine that sends those of its sender.
func (md *model) queue(msg *modelMessage, size int) {
	msg.body = makeBody(msg.from.index, len(md.messages), size)
	md.mu.Lock()
	md.messages = append(md.messages, msg)
	md.mu.Unlock()
	msg.from.jobs <- msg
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

// move breaks a connection, and makes the client resume its session at another hub, or at that of
// the session again.
func (md *model) move(t *rapid.T) {
	mc := md.drawClient(t, (*modelClient).canDisconnect)
	mc.at = md.drawHub(t)
	mc.dialer.setAddr(mc.at.addr)
	if !mc.offline {
		mc.cut(rapid.Bool().Draw(t, "reset"))
	}
}

// setFaults changes what the bus between the hubs does to frames.
func (md *model) setFaults(t *rapid.T) {
	md.bus.SetFaults(rapid.SampledFrom([]membus.Faults{
		{},
		{Loss: 0.05, Duplication: 0.05},
		{Loss: 0.05, Duplication: 0.05, Reorder: 0.1, MaxDelay: 3 * time.Millisecond},
		{MinDelay: 5 * time.Millisecond, MaxDelay: 20 * time.Millisecond},
	}).Draw(t, "faults"))
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
	want, gone := make(map[*modelClient]bool), make(map[*modelClient]bool)
	md.mu.Lock()
	for _, other := range clients {
		want[other], gone[other] = mc.home.knows(other), mc.home.knowsEnd(other)
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
			if listed := slices.Contains(ids, other.id); other != mc && (listed && gone[other] || !listed && want[other] && !other.leaving) {
				md.addProblem("client %d: client %d is listed: %v", mc.index, other.index, listed)
			}
		}
	})
}
