package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// qosAtMostOnce is the quality of service: what all systems here promise.
const qosAtMostOnce = 0

// mqttDriver is an MQTT broker, through paho.
type mqttDriver struct {
	target   target
	channels channels
}

func newMQTTDriver(t target, n int) driver {
	return &mqttDriver{target: t, channels: t.channels(n, "/")}
}

// mqttConn is one connection.
type mqttConn struct {
	driver  *mqttDriver
	client  mqtt.Client
	closing chan struct{} // closed by close

	mu     sync.Mutex // held while something is delivered
	closed bool       // nothing more is

	// Owned by send.
	pending     [2]pendingBody
	nextPending int // which of them
}

// pendingBody is a copy of a body, and what tells that the library has written it.
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
		// A connection that breaks ends the run, and none breaks because a ping has to
		// wait behind everything else.
		options.SetAutoReconnect(false).SetKeepAlive(0).SetConnectTimeout(dialTimeout)
	}
	dc.client = mqtt.NewClient(options)
	if err := waitToken(dc.client.Connect()); err != nil {
		return nil, err
	}
	if cb.onBody == nil {
		return dc, nil
	}
	// The token is settled when the broker has confirmed the subscription.
	if err := waitToken(dc.client.Subscribe(d.channels.subscription(i), qosAtMostOnce, dc.messageHandler(cb))); err != nil {
		dc.client.Disconnect(0)
		return nil, err
	}
	return dc, nil
}

// waitToken waits for what a token stands for.
func waitToken(t mqtt.Token) error {
	if !t.WaitTimeout(dialTimeout) {
		return errors.New("no answer of the broker")
	}
	return t.Error()
}

// messageHandler returns what is called for each message. The library may still call it
// when Disconnect has returned.
func (dc *mqttConn) messageHandler(cb callbacks) mqtt.MessageHandler {
	return func(_ mqtt.Client, message mqtt.Message) {
		dc.mu.Lock()
		defer dc.mu.Unlock()
		if !dc.closed {
			cb.onBody(message.Payload())
		}
	}
}

// send publishes once to everyone, or once to each receiver. The library refers to
// the body until its own goroutine has written it, so a message is a copy; by the
// time that the next but one needs the place, it has been written.
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

// visitMQTT lets the broker choose an id, as the protocol has it for a client that
// brings none.
func visitMQTT(addr string) error {
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetAutoReconnect(false).SetConnectTimeout(dialTimeout))
	if err := waitToken(c.Connect()); err != nil {
		return err
	}
	c.Disconnect(uint(closeTimeout / time.Millisecond))
	return nil
}
