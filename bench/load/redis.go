package main

import (
	"context"
	"unsafe"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// What goes into one pipeline at most: commands that make about batchMost
// deliveries, or batchBytes of bodies. The library waits for the answers of one
// pipeline before it sends the next, so few commands leave the server idle in
// between: with one receiver each, 1,000 were faster than 100, and these than 10.
// But the server reads what all clients sent before it writes what it makes of it:
// with 99 receivers each, 100 commands were no faster than 10, and took ten times
// the memory.
const (
	batchMost  = 1000
	batchBytes = 256 << 10
)

// redisNetwork is a Redis server, through go-redis: PUBLISH and SUBSCRIBE.
type redisNetwork struct {
	target   target
	channels channels
	batch    int // commands in a pipeline, at most
}

func newRedisNetwork(t target, n int) network {
	network := &redisNetwork{target: t, channels: t.channels(n, ":"), batch: batchMost}
	if !t.direct {
		network.batch = max(1, batchMost/(n-1))
	}
	return network
}

// newRedisClient returns a client, which connects when it is first used.
func newRedisClient(addr string, defaults bool) *redis.Client {
	if defaults {
		return redis.NewClient(&redis.Options{Addr: addr})
	}
	return redis.NewClient(&redis.Options{
		Addr:        addr,
		DialTimeout: dialTime,

		// A command that is sent again may be a message that comes twice.
		MaxRetries: -1,

		// No deadlines: the server may take its time for a long pipeline, and each
		// deadline costs.
		ReadTimeout:  -2,
		WriteTimeout: -2,

		// Without the commands by which a new connection tells the library's name and
		// asks for notices of maintenance.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// redisMember is one client: a connection that publishes, and another one that is
// subscribed, as the library has it.
type redisMember struct {
	network *redisNetwork
	client  *redis.Client
	sub     *redis.PubSub // nil for a client that expects nothing
	done    chan struct{} // closed when nothing more is delivered

	// Owned by send.
	pipeline redis.Pipeliner
	bodies   []byte // of the commands in the pipeline, which refer to them; never grows
}

func (n *redisNetwork) join(i int, in inbox) (member, error) {
	m := &redisMember{
		network: n, client: newRedisClient(n.target.addr, n.target.defaults), done: make(chan struct{}),
		bodies: make([]byte, 0, max(batchBytes, n.target.size)),
	}
	m.pipeline = m.client.Pipeline()
	if err := m.connect(n.channels.of(i), in.deliver != nil); err != nil {
		m.client.Close()
		return nil, err
	}
	if m.sub == nil {
		close(m.done)
	} else {
		go m.receive(in) // ends with the connection; close waits for it
	}
	return m, nil
}

// connect makes the connections that the first send and the first message would
// have to wait for.
func (m *redisMember) connect(channel string, subscribe bool) error {
	ctx := context.Background()
	m.pipeline.Ping(ctx)
	if _, err := m.pipeline.Exec(ctx); err != nil || !subscribe {
		return err
	}
	m.sub = m.client.Subscribe(ctx, channel)
	_, err := m.sub.Receive(ctx) // the server has taken the subscription
	return err
}

// receive takes the messages without the channel that the library offers: that
// one drops what does not fit in time, and connects again when the connection
// breaks. As it comes, that is what it does.
func (m *redisMember) receive(in inbox) {
	defer close(m.done)
	if m.network.target.defaults {
		for message := range m.sub.Channel() {
			in.deliver(bytesOf(message.Payload))
		}
		return
	}
	for {
		message, err := m.sub.ReceiveMessage(context.Background())
		if err != nil {
			in.fail(err)
			return
		}
		in.deliver(bytesOf(message.Payload))
	}
}

// bytesOf returns the bytes of a body, which is only looked at: no need to copy it.
func bytesOf(body string) []byte { return unsafe.Slice(unsafe.StringData(body), len(body)) }

// send publishes once to everyone, or once to each receiver.
func (m *redisMember) send(to []int32, body []byte, more bool) error {
	ctx := context.Background()
	at := len(m.bodies)
	m.bodies = append(m.bodies, body...)
	kept := m.bodies[at:]
	if !m.network.channels.direct {
		m.pipeline.Publish(ctx, m.network.channels.all, kept)
	}
	for _, r := range to {
		m.pipeline.Publish(ctx, m.network.channels.own[r], kept)
	}
	if more && m.pipeline.Len() < m.network.batch && len(m.bodies)+len(body) <= cap(m.bodies) {
		return nil
	}
	m.bodies = m.bodies[:0]
	_, err := m.pipeline.Exec(ctx)
	return err
}

func (m *redisMember) close() {
	if m.sub != nil {
		m.sub.Close()
	}
	m.client.Close()
	<-m.done
}

// visitRedis asks for the id that the server gave to the connection.
func visitRedis(addr string) error {
	c := newRedisClient(addr, false)
	defer c.Close()
	return c.ClientID(context.Background()).Err()
}
