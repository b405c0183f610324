package main

import (
	"context"
	"unsafe"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// What goes into one pipeline at most: commands that make about maxBatchDeliveries
// deliveries, or maxBatchBytes of bodies. The library waits for the answers of one
// pipeline before it sends the next, so few commands leave the server idle in
// between: with one receiver each, 1,000 were faster than 100, and these than 10.
// But the server reads what all clients sent before it writes what it makes of it:
// with 99 receivers each, 100 commands were no faster than 10, and took ten times
// the memory.
const (
	maxBatchDeliveries = 1000
	maxBatchBytes      = 256 << 10
)

// redisDriver is a Redis server, through go-redis: PUBLISH and SUBSCRIBE.
type redisDriver struct {
	target   target
	channels channels
	maxBatch int // commands in a pipeline, at most
}

func newRedisDriver(t target, n int) driver {
	d := &redisDriver{target: t, channels: t.channels(n, ":"), maxBatch: maxBatchDeliveries}
	if !t.direct {
		d.maxBatch = max(1, maxBatchDeliveries/(n-1))
	}
	return d
}

// newRedisClient returns a client, which connects when it is first used.
func newRedisClient(addr string, defaults bool) *redis.Client {
	if defaults {
		return redis.NewClient(&redis.Options{Addr: addr})
	}
	return redis.NewClient(&redis.Options{
		Addr:        addr,
		DialTimeout: dialTimeout,

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

// redisConn is one client: a connection that publishes, and another one that is
// subscribed, as the library has it.
type redisConn struct {
	driver *redisDriver
	client *redis.Client
	sub    *redis.PubSub // nil for a client that expects nothing
	done   chan struct{} // closed when nothing more is delivered

	// Owned by send.
	pipeline redis.Pipeliner
	bodies   []byte // of the commands in the pipeline, which refer to them; never grows
}

func (d *redisDriver) connect(i int, cb callbacks) (driverConn, error) {
	dc := &redisConn{
		driver: d, client: newRedisClient(d.target.addr, d.target.libraryDefaults), done: make(chan struct{}),
		bodies: make([]byte, 0, max(maxBatchBytes, d.target.size)),
	}
	dc.pipeline = dc.client.Pipeline()
	if err := dc.connect(d.channels.subscription(i), cb.onBody != nil); err != nil {
		dc.client.Close()
		return nil, err
	}
	if dc.sub == nil {
		close(dc.done)
	} else {
		go dc.receive(cb) // ends with the connection; close waits for it
	}
	return dc, nil
}

// connect makes the connections that the first send and the first message would
// have to wait for.
func (dc *redisConn) connect(channel string, subscribe bool) error {
	ctx := context.Background()
	dc.pipeline.Ping(ctx)
	if _, err := dc.pipeline.Exec(ctx); err != nil || !subscribe {
		return err
	}
	dc.sub = dc.client.Subscribe(ctx, channel)
	_, err := dc.sub.Receive(ctx) // the server has taken the subscription
	return err
}

// receive takes the messages without the channel that the library offers: that
// one drops what does not fit in time, and connects again when the connection
// breaks. As it comes, that is what it does.
func (dc *redisConn) receive(cb callbacks) {
	defer close(dc.done)
	if dc.driver.target.libraryDefaults {
		for message := range dc.sub.Channel() {
			cb.onBody(unsafeBytes(message.Payload))
		}
		return
	}
	for {
		message, err := dc.sub.ReceiveMessage(context.Background())
		if err != nil {
			cb.onError(err)
			return
		}
		cb.onBody(unsafeBytes(message.Payload))
	}
}

// unsafeBytes returns the bytes of a body, which is only looked at: no need to copy it.
func unsafeBytes(body string) []byte { return unsafe.Slice(unsafe.StringData(body), len(body)) }

// send publishes once to everyone, or once to each receiver.
func (dc *redisConn) send(to []int32, body []byte, more bool) error {
	ctx := context.Background()
	offset := len(dc.bodies)
	dc.bodies = append(dc.bodies, body...)
	copied := dc.bodies[offset:]
	if !dc.driver.channels.direct {
		dc.pipeline.Publish(ctx, dc.driver.channels.broadcast, copied)
	}
	for _, r := range to {
		dc.pipeline.Publish(ctx, dc.driver.channels.perClient[r], copied)
	}
	if more && dc.pipeline.Len() < dc.driver.maxBatch && len(dc.bodies)+len(body) <= cap(dc.bodies) {
		return nil
	}
	dc.bodies = dc.bodies[:0]
	_, err := dc.pipeline.Exec(ctx)
	return err
}

func (dc *redisConn) close() {
	if dc.sub != nil {
		dc.sub.Close()
	}
	dc.client.Close()
	<-dc.done
}

// visitRedis asks for the id that the server gave to the connection.
func visitRedis(addr string) error {
	c := newRedisClient(addr, false)
	defer c.Close()
	return c.ClientID(context.Background()).Err()
}
