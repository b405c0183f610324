package client_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

func TestSendReport_Levels(t *testing.T) {
	_, addr := newHub(t)
	clients := dial(t, addr, 3)
	a, acking, naking := clients[0], clients[1], clients[2]
	v1 := dialWith(t, addr, 1, &client.Options{Version: 1})[0]
	to := []uint64{acking.ID(), 9999, naking.ID(), v1.ID()}
	answer := func(c *client.Client, verdict func(client.Message)) {
		m, err := c.Receive(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		if m.From != a.ID() || string(m.Body) != "hello" || time.Since(m.Time()).Abs() > time.Minute {
			t.Errorf("got %q from %d at %v", m.Body, m.From, m.Time())
		}
		verdict(m)
	}
	for _, test := range []struct {
		level wire.Level
		want  []wire.Fate
	}{
		{wire.LevelProcessed, []wire.Fate{wire.FateProcessed, wire.FateUnknown, wire.FateRejected, wire.FateWritten}},
		{wire.LevelReceived, []wire.Fate{wire.FateReceived, wire.FateUnknown, wire.FateReceived, wire.FateWritten}},
	} {
		var wg sync.WaitGroup
		wg.Go(func() { answer(acking, client.Message.Ack) })
		wg.Go(func() { answer(naking, client.Message.Nak) })
		r, err := a.SendReport(t.Context(), to, []byte("hello"), &client.SendOptions{Level: test.level})
		wantFates(t, r, err, test.want...)
		wg.Wait()
		if n := r.Reached(wire.LevelWritten); n != len(to)-1 && test.level == wire.LevelReceived {
			t.Errorf("%d have reached the level, want %d", n, len(to)-1)
		}
	}
}

// TestSendReport_ReceivedOnlyAfterReceive has messages in the inbox.
func TestSendReport_ReceivedOnlyAfterReceive(t *testing.T) {
	_, addr := newHub(t)
	clients := dial(t, addr, 2)
	a, b := clients[0], clients[1]
	r, err := a.SendReport(t.Context(), []uint64{b.ID()}, []byte("one"),
		&client.SendOptions{TTL: 200 * time.Millisecond})
	wantFates(t, r, err, wire.FateWritten)
	reported := make(chan *client.Report, 1)
	err = a.SendFunc(t.Context(), []uint64{b.ID()}, []byte("two"), nil, func(r *client.Report, err error) {
		if err != nil {
			t.Error(err)
		}
		reported <- r
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two"} {
		select {
		case r := <-reported:
			t.Fatalf("reported before %s was received: %v", want, r.Fates)
		default:
		}
		if m, err := b.Receive(t.Context()); err != nil || string(m.Body) != want {
			t.Fatalf("received %q, %v", m.Body, err)
		}
	}
	// After a while, because b does not call Receive again.
	wantFates(t, <-reported, nil, wire.FateReceived)
}

// TestSendReport_AbandonedReceiver closes the connection of a receiver with undelivered
// messages. What the receiver has not received is uncertain, or was never written.
func TestSendReport_AbandonedReceiver(t *testing.T) {
	_, addr := newHubWith(t, hub.Config{ResumeWindow: time.Millisecond})
	a := dial(t, addr, 1)[0]
	d := newFlakyDialer(addr)
	b := d.newClient(t)
	const all = 50
	reports := make([]*client.Report, all)
	var wg sync.WaitGroup
	for i := range all {
		wg.Add(1)
		err := a.SendFunc(t.Context(), []uint64{b.ID()}, []byte(fmt.Sprint(i)), nil, func(r *client.Report, err error) {
			reports[i] = r
			wg.Done()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	received := 20
	for range received {
		if _, err := b.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	d.setDown(true)
	wg.Wait()
	for i, r := range reports {
		switch fate := r.Fates[0]; {
		case fate == wire.FateReceived && i >= received:
			t.Errorf("message %d is reported as received, and was not received", i)
		case fate != wire.FateReceived && fate != wire.FateUncertain && fate != wire.FateGone:
			t.Errorf("message %d is %v", i, fate)
		}
	}
}
