package client_test

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// receiversPerMessage is the number of receivers of each message of a flakyClient.
const receiversPerMessage = 3

// flakyClient is a client whose connection breaks again and again. It checks that every message
// arrives once and in order, and that every report is true.
type flakyClient struct {
	t        testing.TB
	index    int
	messages int
	random   *rand.Rand
	dialer   *flakyDialer
	client   *client.Client
	clients  []*flakyClient

	reported sync.WaitGroup
	arrived  chan struct{} // one value per message
	complete chan struct{} // closed when all messages have arrived

	mu       sync.Mutex
	got      [][]uint32 // by sender: the numbers of its messages
	received int
	reports  int // number of reports
}

func newFlakyClient(t testing.TB, addr string, index, clients, messages int, random *rand.Rand) *flakyClient {
	fc := &flakyClient{t: t, index: index, messages: messages, random: random, dialer: newFlakyDialer(addr), got: make([][]uint32, clients),
		arrived: make(chan struct{}, messages*receiversPerMessage), complete: make(chan struct{})}
	fc.client = fc.dialer.newClient(t, func(o *client.Options) {
		o.OnEvent = func(e client.Event) {
			if e.Kind == client.EventNewID || e.Kind == client.EventRefused {
				t.Errorf("client %d: %v", index, e.Kind)
			}
		}
		if index%2 == 0 {
			o.OnMessage = fc.record
		}
	})
	if index%2 == 1 {
		go func() { // ends with the client
			for message, err := range fc.client.Messages(t.Context()) {
				if err != nil {
					return
				}
				fc.record(message)
			}
		}()
	}
	return fc
}

// receiver returns receiver i of message n: the clients with the next indexes, in turn.
func (fc *flakyClient) receiver(n, i int) *flakyClient {
	return fc.clients[(fc.index+1+n*receiversPerMessage+i)%len(fc.clients)]
}

func (fc *flakyClient) record(message client.Message) {
	sender, number := binary.BigEndian.Uint32(message.Body), binary.BigEndian.Uint32(message.Body[4:])
	fc.mu.Lock()
	fc.got[sender] = append(fc.got[sender], number)
	fc.received++
	received := fc.received
	fc.mu.Unlock()
	switch due := fc.messages * receiversPerMessage; {
	case received > due:
		fc.t.Errorf("client %d got message %d of %d in addition", fc.index, number, sender)
		return
	case received == due:
		close(fc.complete)
	}
	fc.arrived <- struct{}{}
}

func (fc *flakyClient) send() {
	for n := range fc.messages {
		var to []uint64
		for i := range receiversPerMessage {
			to = append(to, fc.receiver(n, i).client.ID())
		}
		body := make([]byte, 8+fc.random.IntN(500))
		if n%100 == 0 {
			body = make([]byte, 70_000)
		}
		binary.BigEndian.PutUint32(body, uint32(fc.index))
		binary.BigEndian.PutUint32(body[4:], uint32(n))
		fc.reported.Add(1)
		err := fc.client.SendFunc(fc.t.Context(), to, body, nil, func(r *client.Report, err error) {
			defer fc.reported.Done()
			fc.mu.Lock()
			fc.reports++
			fc.mu.Unlock()
			if err != nil {
				fc.t.Errorf("client %d, message %d: %v", fc.index, n, err)
				return
			}
			for i, fate := range r.Fates {
				if fate != wire.FateReceived {
					fc.t.Errorf("client %d, message %d, receiver %d: %v", fc.index, n, i, fate)
				}
			}
		})
		if err != nil {
			fc.t.Errorf("client %d, message %d: %v", fc.index, n, err)
			return
		}
	}
}

// cut breaks the connection again and again, each time when it has resumed and some more
// messages have arrived.
func (fc *flakyClient) cut(times int) {
	random := rand.New(rand.NewPCG(uint64(fc.index), 1))
	for range times {
		for range random.IntN(fc.messages * receiversPerMessage / times) {
			<-fc.arrived
		}
		if _, err := fc.client.Ping(fc.t.Context()); err != nil { // now it is connected
			fc.t.Errorf("client %d: %v", fc.index, err)
			return
		}
		fc.dialer.cut(random.IntN(2) == 0)
	}
}

func (fc *flakyClient) wait() {
	fc.reported.Wait()
	<-fc.complete
}

// check checks that each message to fc has arrived once and in order.
func (fc *flakyClient) check(cuts int) {
	want := make([][]uint32, len(fc.got))
	for s, sender := range fc.clients {
		for n := range fc.messages {
			for i := range receiversPerMessage {
				if sender.receiver(n, i) == fc {
					want[s] = append(want[s], uint32(n))
				}
			}
		}
	}
	for s := range want {
		if len(want[s]) != len(fc.got[s]) {
			fc.t.Errorf("client %d got %d messages from %d, want %d", fc.index, len(fc.got[s]), s, len(want[s]))
			continue
		}
		for i := range want[s] {
			if want[s][i] != fc.got[s][i] {
				fc.t.Errorf("client %d got message %d from %d, want %d", fc.index, fc.got[s][i], s, want[s][i])
				break
			}
		}
	}
	if dials := fc.dialer.connections(); dials < cuts {
		fc.t.Errorf("client %d connected %d times, want at least %d", fc.index, dials, cuts)
	}
}

// waitWhileProgressing waits for end as long as messages or reports arrive.
func waitWhileProgressing(t *testing.T, end <-chan struct{}, flaky []*flakyClient) {
	t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last, since := 0, time.Now(); ; {
		select {
		case <-end:
			return
		case <-tick.C:
		}
		now := 0
		for _, fc := range flaky {
			fc.mu.Lock()
			now += fc.received + fc.reports
			fc.mu.Unlock()
		}
		if now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < testTimeout {
			continue
		}
		for _, fc := range flaky {
			fc.mu.Lock()
			if due := fc.messages * receiversPerMessage; fc.received < due || fc.reports < fc.messages {
				t.Logf("client %d got %d messages of %d, and %d reports of %d", fc.index, fc.received, due, fc.reports, fc.messages)
			}
			fc.mu.Unlock()
		}
		t.Fatal("timeout: messages are missing")
	}
}
