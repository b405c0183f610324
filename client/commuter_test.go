package client_test

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// receivers is to how many others a commuter sends each message.
const receivers = 3

// commuter is a client whose connection breaks again and again. It holds what it gets
// and what it is told to the promises: every message once and in order, every report
// true.
type commuter struct {
	t        testing.TB
	index    int
	messages int
	random   *rand.Rand
	line     *line
	client   *client.Client
	ids      []*commuter

	reported sync.WaitGroup
	arrived  chan struct{} // one for each message
	complete chan struct{} // closed when all are there

	mu   sync.Mutex
	got  [][]uint32 // by sender: the numbers of its messages
	all  int
	told int // reports
}

func newCommuter(t testing.TB, addr string, index, clients, messages int, random *rand.Rand) *commuter {
	m := &commuter{t: t, index: index, messages: messages, random: random, line: newLine(addr), got: make([][]uint32, clients),
		arrived: make(chan struct{}, messages*receivers), complete: make(chan struct{})}
	m.client = m.line.join(t, func(o *client.Options) {
		o.OnEvent = func(e client.Event) {
			if e.Kind == client.EventNewID || e.Kind == client.EventRefused {
				t.Errorf("client %d: %v", index, e.Kind)
			}
		}
		if index%2 == 0 {
			o.OnMessage = m.take
		}
	})
	if index%2 == 1 {
		go func() { // ends with the client
			for message, err := range m.client.Messages(t.Context()) {
				if err != nil {
					return
				}
				m.take(message)
			}
		}()
	}
	return m
}

// target returns to whom message n goes: to those behind, in turn.
func (m *commuter) target(n, i int) *commuter {
	return m.ids[(m.index+1+n*receivers+i)%len(m.ids)]
}

func (m *commuter) take(message client.Message) {
	sender, number := binary.BigEndian.Uint32(message.Body), binary.BigEndian.Uint32(message.Body[4:])
	m.mu.Lock()
	m.got[sender] = append(m.got[sender], number)
	m.all++
	all := m.all
	m.mu.Unlock()
	switch due := m.messages * receivers; {
	case all > due:
		m.t.Errorf("client %d got message %d of %d beyond all", m.index, number, sender)
		return
	case all == due:
		close(m.complete)
	}
	m.arrived <- struct{}{}
}

func (m *commuter) send() {
	for n := range m.messages {
		var to []uint64
		for i := range receivers {
			to = append(to, m.target(n, i).client.ID())
		}
		body := make([]byte, 8+m.random.IntN(500))
		if n%100 == 0 {
			body = make([]byte, 70_000)
		}
		binary.BigEndian.PutUint32(body, uint32(m.index))
		binary.BigEndian.PutUint32(body[4:], uint32(n))
		m.reported.Add(1)
		err := m.client.SendFunc(m.t.Context(), to, body, nil, func(r *client.Report, err error) {
			defer m.reported.Done()
			m.mu.Lock()
			m.told++
			m.mu.Unlock()
			if err != nil {
				m.t.Errorf("client %d, message %d: %v", m.index, n, err)
				return
			}
			for i, fate := range r.Fates {
				if fate != wire.FateReceived {
					m.t.Errorf("client %d, message %d, receiver %d: %v", m.index, n, i, fate)
				}
			}
		})
		if err != nil {
			m.t.Errorf("client %d, message %d: %v", m.index, n, err)
			return
		}
	}
}

// cut breaks the connection again and again, each time when it is back and some
// messages more have arrived.
func (m *commuter) cut(times int) {
	random := rand.New(rand.NewPCG(uint64(m.index), 1))
	for range times {
		for range random.IntN(m.messages * receivers / times) {
			<-m.arrived
		}
		if _, err := m.client.Ping(m.t.Context()); err != nil { // it is connected
			m.t.Errorf("client %d: %v", m.index, err)
			return
		}
		m.line.cut(random.IntN(2) == 0)
	}
}

func (m *commuter) wait() {
	m.reported.Wait()
	<-m.complete
}

// check looks whether each message that was sent to m has arrived once and in order.
func (m *commuter) check(cuts int) {
	want := make([][]uint32, len(m.got))
	for s, sender := range m.ids {
		for n := range m.messages {
			for i := range receivers {
				if sender.target(n, i) == m {
					want[s] = append(want[s], uint32(n))
				}
			}
		}
	}
	for s := range want {
		if len(want[s]) != len(m.got[s]) {
			m.t.Errorf("client %d got %d messages from %d, want %d", m.index, len(m.got[s]), s, len(want[s]))
			continue
		}
		for i := range want[s] {
			if want[s][i] != m.got[s][i] {
				m.t.Errorf("client %d got message %d from %d, want %d", m.index, m.got[s][i], s, want[s][i])
				break
			}
		}
	}
	if made := m.line.connections(); made < cuts {
		m.t.Errorf("client %d connected %d times, want at least %d", m.index, made, cuts)
	}
}
