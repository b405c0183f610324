package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// atMostOnce is the quality of service: what all systems here promise.
const atMostOnce = 0

// mqttNetwork is an MQTT broker, through paho.
type mqttNetwork struct {
	target   target
	channels channels
}

func newMQTTNetwork(t target, n int) network {
	return &mqttNetwork{target: t, channels: t.channels(n, "/")}
}

// mqttMember is one connection.
type mqttMember struct {
	network *mqttNetwork
	client  mqtt.Client
	leaving chan struct{} // closed by close

	mu   sync.Mutex // held while something is delivered
	left bool       // nothing more is

	// Owned by send.
	kept [2]keptBody
	next int // which of them
}

// keptBody is a copy of a body, and what tells that the library has written it.
type keptBody struct {
	body  []byte
	token mqtt.Token
}

func (n *mqttNetwork) join(i int, in inbox) (member, error) {
	m := &mqttMember{network: n, leaving: make(chan struct{})}
	options := mqtt.NewClientOptions().
		AddBroker("tcp://" + n.target.addr).
		SetClientID(fmt.Sprint(n.target.group, "-", i)).
		SetOrderMatters(true). // the default; without it, each message gets a goroutine
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { in.fail(err) })
	if !n.target.defaults {
		// A connection that breaks ends the run, and none breaks because a ping has to
		// wait behind everything else.
		options.SetAutoReconnect(false).SetKeepAlive(0).SetConnectTimeout(dialTime)
	}
	m.client = mqtt.NewClient(options)
	if err := settled(m.client.Connect()); err != nil {
		return nil, err
	}
	if in.deliver == nil {
		return m, nil
	}
	// The token is settled when the broker has confirmed the subscription.
	if err := settled(m.client.Subscribe(n.channels.of(i), atMostOnce, m.deliverTo(in))); err != nil {
		m.client.Disconnect(0)
		return nil, err
	}
	return m, nil
}

// settled waits for what a token stands for.
func settled(t mqtt.Token) error {
	if !t.WaitTimeout(dialTime) {
		return errors.New("no answer of the broker")
	}
	return t.Error()
}

// deliverTo returns what is called for each message. The library may still call it
// when Disconnect has returned.
func (m *mqttMember) deliverTo(in inbox) mqtt.MessageHandler {
	return func(_ mqtt.Client, message mqtt.Message) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.left {
			in.deliver(message.Payload())
		}
	}
}

// send publishes once to everyone, or once to each receiver. The library refers to
// the body until its own goroutine has written it, so a message is a copy; by the
// time that the next but one needs the place, it has been written.
func (m *mqttMember) send(to []int32, body []byte, _ bool) error {
	kept := &m.kept[m.next]
	m.next = 1 - m.next
	if err := m.written(kept.token); err != nil {
		return err
	}
	kept.body = append(kept.body[:0], body...)
	if !m.network.channels.direct {
		kept.token = m.client.Publish(m.network.channels.all, atMostOnce, false, kept.body)
	}
	for _, r := range to {
		kept.token = m.client.Publish(m.network.channels.own[r], atMostOnce, false, kept.body)
	}
	return nil
}

// written waits until the library has written a message.
func (m *mqttMember) written(t mqtt.Token) error {
	if t == nil {
		return nil
	}
	select {
	case <-t.Done():
		return t.Error()
	case <-m.leaving:
		return errors.New("closed")
	}
}

func (m *mqttMember) close() {
	close(m.leaving)
	m.client.Disconnect(uint(leaveTime / time.Millisecond))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = true
}

// visitMQTT lets the broker choose an id, as the protocol has it for a client that
// brings none.
func visitMQTT(addr string) error {
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetAutoReconnect(false).SetConnectTimeout(dialTime))
	if err := settled(c.Connect()); err != nil {
		return err
	}
	c.Disconnect(uint(leaveTime / time.Millisecond))
	return nil
}
