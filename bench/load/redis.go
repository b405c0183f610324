package main

import (
	"context"
	"unsafe"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// maxBatchDeliveries and maxBatchBytes limit a pipeline to the commands that make about
// maxBatchDeliveries deliveries, and to maxBatchBytes of bodies. The library waits for the
// replies of one pipeline before it sends the next, therefore short pipelines leave the server
// idle in between: with one receiver for each command, 1,000 commands were faster than 100,
// and 100 were faster than 10. But the server reads what all clients sent before it writes the
// resulting messages: with 99 receivers for each command, 100 commands were no faster than 10,
// and took ten times the memory.
const (
	maxBatchDeliveries = 1000
	maxBatchBytes      = 256 << 10
)

// redisDriver drives a Redis server through go-redis, with PUBLISH and SUBSCRIBE.
type redisDriver struct {
	target   target
	channels channels
	maxBatch int // commands in a pipeline
}

func newRedisDriver(t target, n int) driver {
	d := &redisDriver{target: t, channels: t.channels(n, ":"), maxBatch: maxBatchDeliveries}
	if !t.direct {
		d.maxBatch = max(1, maxBatchDeliveries/(n-1))
	}
	return d
}

// newRedisClient returns a client, which connects on first use.
func newRedisClient(addr string, defaults bool) *redis.Client {
	if defaults {
		return redis.NewClient(&redis.Options{Addr: addr})
	}
	return redis.NewClient(&redis.Options{
		Addr:        addr,
		DialTimeout: dialTimeout,

		// A retried command can deliver a message twice.
		MaxRetries: -1,

		// No deadlines, because the server can take long for a long pipeline and each deadline has a
		// cost.
		ReadTimeout:  -2,
		WriteTimeout: -2,

		// Omit the commands by which a new connection sends the library's name and requests
		// maintenance notifications.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// redisConn is one client: a connection that publishes and, as the library requires, another
// connection for the subscription.
type redisConn struct {
	driver *redisDriver
	client *redis.Client
	sub    *redis.PubSub // nil for a client that expects no messages
	done   chan struct{} // closed when onBody is not called any more

	// Owned by send.
	pipeline redis.Pipeliner
	bodies   []byte // referenced by the commands in the pipeline; never reallocated
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

// connect opens the connections in advance, because the library opens them on first use. It
// returns when the server has confirmed the subscription.
func (dc *redisConn) connect(channel string, subscribe bool) error {
	ctx := context.Background()
	dc.pipeline.Ping(ctx)
	if _, err := dc.pipeline.Exec(ctx); err != nil || !subscribe {
		return err
	}
	dc.sub = dc.client.Subscribe(ctx, channel)
	_, err := dc.sub.Receive(ctx) // the server's confirmation of the subscription
	return err
}

// receive calls onBody for each message. The channel that the library offers drops messages
// when it is full and reconnects when the connection is lost, therefore receive uses it only
// with libraryDefaults.
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

// unsafeBytes returns the bytes of body without copying. They must not be changed.
func unsafeBytes(body string) []byte { return unsafe.Slice(unsafe.StringData(body), len(body)) }

// send publishes once to all clients, or once to each receiver.
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

// visitRedis requests the id that the server gave to the connection.
func visitRedis(addr string) error {
	c := newRedisClient(addr, false)
	defer c.Close()
	return c.ClientID(context.Background()).Err()
}
