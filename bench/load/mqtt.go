package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// qosAtMostOnce is the quality of service that corresponds to the other systems.
const qosAtMostOnce = 0

// mqttDriver drives an MQTT broker through paho.
type mqttDriver struct {
	target   target
	channels channels
}

func newMQTTDriver(t target, n int) driver {
	return &mqttDriver{target: t, channels: t.channels(n, "/")}
}

// mqttConn is one client of the broker.
type mqttConn struct {
	driver  *mqttDriver
	client  mqtt.Client
	closing chan struct{} // closed by close

	mu     sync.Mutex // held during onBody
	closed bool       // onBody is not called any more

	// Owned by send.
	pending     [2]pendingBody
	nextPending int // index of the next element of pending to use
}

// pendingBody is a copy of a body, and the token that completes when the library has written
// the body.
type pendingBody struct {
	body  []byte
	token mqtt.Token
}

func (d *mqttDriver) connect(i int, cb callbacks) (driverConn, error) {
	dc := &mqttConn{driver: d, closing: make(chan struct{})}
	options := mqtt.NewClientOptions().
		AddBroker("tcp://" + d.target.addr).
		SetClientID(fmt.Sprint(d.target.namePrefix, "-", i)).
		SetOrderMatters(true). // the default; without it, each message gets a goroutine
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { cb.onError(err) })
	if !d.target.libraryDefaults {
		// A lost connection ends the run. Without keep-alive, no connection is lost because a ping
		// waits behind other packets.
		options.SetAutoReconnect(false).SetKeepAlive(0).SetConnectTimeout(dialTimeout)
	}
	dc.client = mqtt.NewClient(options)
	if err := waitToken(dc.client.Connect()); err != nil {
		return nil, err
	}
	if cb.onBody == nil {
		return dc, nil
	}
	// The token completes when the broker has confirmed the subscription.
	if err := waitToken(dc.client.Subscribe(d.channels.subscription(i), qosAtMostOnce, dc.messageHandler(cb))); err != nil {
		dc.client.Disconnect(0)
		return nil, err
	}
	return dc, nil
}

// waitToken waits until a token completes, at most for dialTimeout.
func waitToken(t mqtt.Token) error {
	if !t.WaitTimeout(dialTimeout) {
		return errors.New("no reply from the broker")
	}
	return t.Error()
}

// messageHandler returns the handler of messages. The library can call the handler after
// Disconnect has returned.
func (dc *mqttConn) messageHandler(cb callbacks) mqtt.MessageHandler {
	return func(_ mqtt.Client, message mqtt.Message) {
		dc.mu.Lock()
		defer dc.mu.Unlock()
		if !dc.closed {
			cb.onBody(message.Payload())
		}
	}
}

// send publishes once to all clients, or once to each receiver. The library refers to the body
// until its own goroutine has written it, therefore send publishes a copy. Two copies
// alternate, and send waits until the library has written the older copy before it reuses the
// memory.
func (dc *mqttConn) send(to []int32, body []byte, _ bool) error {
	pb := &dc.pending[dc.nextPending]
	dc.nextPending = 1 - dc.nextPending
	if err := dc.waitWritten(pb.token); err != nil {
		return err
	}
	pb.body = append(pb.body[:0], body...)
	if !dc.driver.channels.direct {
		pb.token = dc.client.Publish(dc.driver.channels.broadcast, qosAtMostOnce, false, pb.body)
	}
	for _, r := range to {
		pb.token = dc.client.Publish(dc.driver.channels.perClient[r], qosAtMostOnce, false, pb.body)
	}
	return nil
}

// waitWritten waits until the library has written a message.
func (dc *mqttConn) waitWritten(t mqtt.Token) error {
	if t == nil {
		return nil
	}
	select {
	case <-t.Done():
		return t.Error()
	case <-dc.closing:
		return errors.New("closed")
	}
}

func (dc *mqttConn) close() {
	close(dc.closing)
	dc.client.Disconnect(uint(closeTimeout / time.Millisecond))
	dc.mu.Lock()
	defer dc.mu.Unlock()
	dc.closed = true
}

// visitMQTT connects without a client id, which makes the broker choose one, and disconnects.
func visitMQTT(addr string) error {
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetAutoReconnect(false).SetConnectTimeout(dialTimeout))
	if err := waitToken(c.Connect()); err != nil {
		return err
	}
	c.Disconnect(uint(closeTimeout / time.Millisecond))
	return nil
}
