package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// testTimeout is how long a test waits for an event that must happen.
const testTimeout = 30 * time.Second

// flakyDialer dials a hub. The test can cut its connections.
type flakyDialer struct {
	addr string

	mu     sync.Mutex
	nc     net.Conn
	dials  int
	isDown bool // dials fail
	events chan client.Event
}

func newFlakyDialer(addr string) *flakyDialer {
	return &flakyDialer{addr: addr, events: make(chan client.Event, 1000)}
}

// options returns Options that use d.
func (d *flakyDialer) options() *client.Options {
	return &client.Options{Dial: d.dial, OnEvent: func(e client.Event) { d.events <- e }}
}

func (d *flakyDialer) dial(ctx context.Context) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isDown {
		return nil, errors.New("the dialer is down")
	}
	var netDialer net.Dialer
	nc, err := netDialer.DialContext(ctx, "tcp", d.addr)
	d.nc, d.dials = nc, d.dials+1
	return nc, err
}

// cut breaks the connection, by a reset or by closing it.
func (d *flakyDialer) cut(reset bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if reset {
		_ = d.nc.(*net.TCPConn).SetLinger(0)
	}
	d.nc.Close()
}

func (d *flakyDialer) connections() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dials
}

// setDown cuts the connection and makes dials fail while yes is true.
func (d *flakyDialer) setDown(yes bool) {
	d.mu.Lock()
	d.isDown = yes
	d.mu.Unlock()
	if yes {
		d.cut(true)
	}
}

// wantEvent waits for an event of that kind. Events before it must be EventReconnectFailed, or
// of the kinds in between.
func (d *flakyDialer) wantEvent(t testing.TB, kind client.EventKind, between ...client.EventKind) client.Event {
	t.Helper()
	for {
		select {
		case e := <-d.events:
			if e.Kind == kind {
				return e
			}
			if e.Kind != client.EventReconnectFailed && !slices.Contains(between, e.Kind) {
				t.Fatalf("event %v (%v), want %v", e.Kind, e.Err, kind)
			}
		case <-time.After(testTimeout):
			t.Fatalf("timeout: event %v", kind)
		}
	}
}

// newClient connects a client through d.
func (d *flakyDialer) newClient(t testing.TB, change ...func(*client.Options)) *client.Client {
	t.Helper()
	o := d.options()
	for _, f := range change {
		f(o)
	}
	c, err := client.Dial(t.Context(), d.addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func wantFates(t testing.TB, r *client.Report, err error, want ...wire.Fate) {
	t.Helper()
	if err != nil {
		t.Fatalf("no report: %v", err)
	}
	if !slices.Equal(r.Fates, want) {
		t.Fatalf("fates %v, want %v", r.Fates, want)
	}
}

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

func TestResume_Transparent(t *testing.T) {
	h, addr := newHub(t)
	la, lb := newFlakyDialer(addr), newFlakyDialer(addr)
	a, b := la.newClient(t), lb.newClient(t)
	ids := []uint64{a.ID(), b.ID()}
	for i, d := range []*flakyDialer{la, lb, la, lb} {
		d.cut(i%2 == 0)
		if err := a.Send(t.Context(), ids[1:], []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if m, err := b.Receive(t.Context()); err != nil || string(m.Body) != fmt.Sprint(i) || m.From != ids[0] {
			t.Fatalf("received %q from %d, %v", m.Body, m.From, err)
		}
		d.wantEvent(t, client.EventDisconnected)
		d.wantEvent(t, client.EventResumed)
	}
	if others, err := a.List(t.Context()); err != nil || !slices.Equal(others, ids[1:]) {
		t.Errorf("List: %v, %v", others, err)
	}
	if a.ID() != ids[0] || b.ID() != ids[1] {
		t.Errorf("ids are %d and %d", a.ID(), b.ID())
	}
	if n := h.Stats().Resumed; n != 4 {
		t.Errorf("%d resumed, want 4", n)
	}
}

// TestReconnect_AfterResumeWindow has a client that is disconnected for longer than the resume
// window.
func TestReconnect_AfterResumeWindow(t *testing.T) {
	for _, resend := range []bool{false, true} {
		t.Run(fmt.Sprintf("resend=%v", resend), func(t *testing.T) {
			_, addr := newHubWith(t, hub.Config{ResumeWindow: 50 * time.Millisecond})
			d := newFlakyDialer(addr)
			a := d.newClient(t, func(o *client.Options) { o.Resend = resend })
			b := dial(t, addr, 1)[0]
			first := a.ID()
			outcome := make(chan error, 1)
			err := a.SendFunc(t.Context(), []uint64{b.ID()}, []byte("reported"), &client.SendOptions{Level: wire.LevelProcessed},
				func(_ *client.Report, err error) { outcome <- err })
			if err != nil {
				t.Fatal(err)
			}
			m, err := b.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			d.setDown(true)
			d.wantEvent(t, client.EventDisconnected)
			waitLeft(t, b, first)
			if err := a.Send(t.Context(), []uint64{b.ID()}, []byte("sent while away")); err != nil {
				t.Fatal(err)
			}
			d.setDown(false)
			e := d.wantEvent(t, client.EventNewID, client.EventDisconnected)
			if e.ID == first || a.ID() != e.ID || e.Unconfirmed != 0 {
				t.Errorf("the event is %+v, the id was %d and is %d", e, first, a.ID())
			}
			want := []string{"sent while away"}
			if resend {
				want = []string{"reported", "sent while away"}
			} else if err := <-outcome; !errors.Is(err, client.ErrSessionLost) {
				t.Errorf("the report: %v, want %v", err, client.ErrSessionLost)
			}
			for _, want := range want {
				m, err = b.Receive(t.Context())
				if err != nil || string(m.Body) != want || m.From != e.ID {
					t.Errorf("received %q from %d, %v; want %q from %d", m.Body, m.From, err, want, e.ID)
				}
				m.Ack()
			}
			if resend {
				if err := <-outcome; err != nil {
					t.Errorf("the report of what was sent again: %v", err)
				}
			}
		})
	}
}

// TestClient_EchoUnderLoad receives and sends in one loop, while others send more messages than
// the loop can answer. The reports and ACKs of the answers must not wait behind those messages.
func TestClient_EchoUnderLoad(t *testing.T) {
	h, addr := newHub(t)
	worker := dial(t, addr, 1)[0]
	const producers, messages = 4, 10_000
	var producing sync.WaitGroup
	for range producers {
		answers := 0
		done := make(chan struct{})
		c, err := client.Dial(t.Context(), addr, &client.Options{OnMessage: func(client.Message) {
			if answers++; answers == messages {
				close(done)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		producing.Go(func() {
			for range messages {
				if err := c.Send(t.Context(), []uint64{worker.ID()}, make([]byte, 400)); err != nil {
					t.Error(err)
					return
				}
			}
			<-done
		})
	}
	n := 0
	for m, err := range worker.Messages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.Send(t.Context(), []uint64{m.From}, m.Body); err != nil {
			t.Fatal(err)
		}
		if n++; n == producers*messages {
			break
		}
	}
	producing.Wait()
	if stats := h.Stats(); stats.Disconnected[hub.CloseStalled] != 0 {
		t.Errorf("disconnected: %v", stats.Disconnected)
	}
}

// TestListPage_Concurrent: each call gets its own page.
func TestListPage_Concurrent(t *testing.T) {
	_, addr := newHub(t)
	clients := dial(t, addr, 10)
	var asking sync.WaitGroup
	for i := range 10 {
		asking.Go(func() {
			for range 100 {
				page, err := clients[0].ListPage(t.Context(), clients[i].ID(), 0)
				if err != nil || len(page.IDs) != 9-i {
					t.Errorf("above client %d there are %v, %v", i, page.IDs, err)
				}
			}
		})
	}
	asking.Wait()
}

// waitLeft waits until watcher no longer lists the client id.
func waitLeft(t testing.TB, watcher *client.Client, id uint64) {
	t.Helper()
	first := true
	for p, err := range watcher.Watch(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if first && !slices.Contains(p.Joined, id) || slices.Contains(p.Left, id) {
			return
		}
		first = false
	}
}

// TestReconnect_CountsUnconfirmed loses the connection while many messages wait for a receiver
// that does not read.
func TestReconnect_CountsUnconfirmed(t *testing.T) {
	h, addr := newHubWith(t, hub.Config{ResumeWindow: time.Millisecond, OutboxBytes: 4 << 10})
	d := newFlakyDialer(addr)
	a := d.newClient(t)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close() // reads only its id
	if _, err := nc.Write(wire.AppendIdentityRequest(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, wire.IdentityLen)); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for blocked := false; !blocked; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		blocked = a.Send(ctx, []uint64{2}, make([]byte, 60_000)) != nil
		cancel()
		sent++
	}
	d.setDown(true)
	d.wantEvent(t, client.EventDisconnected)
	for deadline := time.Now().Add(testTimeout); ; time.Sleep(time.Millisecond) {
		if _, known := h.Client(a.ID()); !known {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("timeout: the hub still has the session")
		}
	}
	d.setDown(false)
	if e := d.wantEvent(t, client.EventNewID); e.Unconfirmed < 1 || e.Unconfirmed > sent {
		t.Errorf("%d of %d messages are unconfirmed", e.Unconfirmed, sent)
	}
}

func TestGoAway_HubShutdown(t *testing.T) {
	h, addr := newHub(t)
	d := newFlakyDialer(addr)
	c := d.newClient(t)
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	e := d.wantEvent(t, client.EventDisconnected)
	var away *client.GoAwayError
	if !errors.As(e.Err, &away) || away.Code != wire.GoAwayShutdown || !away.Reconnect || !errors.Is(e.Err, client.ErrHubClosed) {
		t.Errorf("the event has %v", e.Err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if e := d.wantEvent(t, client.EventClosed); !errors.Is(e.Err, client.ErrClosed) {
		t.Errorf("closed: %v", e.Err)
	}
}

func TestWatch(t *testing.T) {
	_, addr := newHub(t)
	d := newFlakyDialer(addr)
	c := d.newClient(t)
	connected := map[uint64]bool{}
	seen := make(chan []uint64)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for p, err := range c.Watch(ctx) {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			for _, id := range p.Joined {
				if connected[id] {
					t.Errorf("%d joined twice", id)
				}
				connected[id] = true
			}
			for _, id := range p.Left {
				if !connected[id] {
					t.Errorf("%d left, and had not joined", id)
				}
				delete(connected, id)
			}
			select {
			case seen <- slices.Sorted(maps.Keys(connected)):
			case <-ctx.Done():
			}
		}
	})
	want := []uint64{c.ID()}
	wantSeen := func() {
		t.Helper()
		for deadline := time.After(testTimeout); ; {
			select {
			case now := <-seen:
				if slices.Equal(now, want) {
					return
				}
			case <-deadline:
				t.Fatalf("timeout: %v", want)
			}
		}
	}
	wantSeen()
	others := dial(t, addr, 3)
	for _, o := range others {
		want = append(want, o.ID())
	}
	wantSeen()
	d.cut(true)
	d.wantEvent(t, client.EventDisconnected)
	others[1].Close()
	want = slices.Delete(want, 2, 3)
	wantSeen()
	second, stop := context.WithCancel(t.Context())
	defer stop()
	for p, err := range c.Watch(second) { // the first Presence has all connected clients
		if err != nil || !slices.Equal(p.Joined, want) || p.Left != nil {
			t.Errorf("a second watch begins with %v, %v, want %v", p, err, want)
		}
		break
	}
}

// TestWatch_Forbidden: the Watch ends with an error and does not block.
func TestWatch_Forbidden(t *testing.T) {
	_, addr := newHubWith(t, hub.Config{Authenticate: func(hub.AuthRequest) (*hub.Permissions, error) { return &hub.Permissions{NoWatch: true}, nil }})
	for _, err := range dial(t, addr, 1)[0].Watch(t.Context()) {
		if !errors.Is(err, client.ErrWatchForbidden) {
			t.Errorf("Watch: %v, want %v", err, client.ErrWatchForbidden)
		}
	}
}

// TestWatch_TooManyWatchers watches while another client has the only place, which becomes free
// later.
func TestWatch_TooManyWatchers(t *testing.T) {
	_, addr := newHubWith(t, hub.Config{MaxWatchers: 1})
	both := dial(t, addr, 2)
	watch := func(c *client.Client) error {
		for _, err := range c.Watch(t.Context()) {
			return err
		}
		return nil
	}
	holding, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, err := range both[0].Watch(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			close(holding)
			<-release
			return
		}
	})
	<-holding
	for range 2 { // the second Watch sends a new WATCH
		if err := watch(both[1]); !errors.Is(err, client.ErrTooManyWatchers) || !strings.Contains(err.Error(), "too many presence watchers, the maximum is 1") {
			t.Errorf("Watch: %v, want %v", err, client.ErrTooManyWatchers)
		}
	}
	close(release)
	wg.Wait()
	for deadline := time.Now().Add(testTimeout); watch(both[1]) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("timeout: no place for a watcher")
		}
	}
}

func TestListPage_AndPing(t *testing.T) {
	_, addr := newHub(t)
	clients := dial(t, addr, 5)
	c := clients[2]
	var want, ids []uint64
	for _, one := range clients {
		want = append(want, one.ID())
	}
	for after, more := uint64(0), true; more; {
		p, err := c.ListPage(t.Context(), after, 2)
		if err != nil || p.Total != 5 || len(p.IDs) > 2 {
			t.Fatalf("page %+v, %v", p, err)
		}
		ids, more = append(ids, p.IDs...), p.More
		after = p.IDs[len(p.IDs)-1]
	}
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("the pages are %v, want %v", ids, want)
	}
	if _, err := c.ListPage(t.Context(), 0, -1); err == nil {
		t.Error("a limit of -1 is allowed")
	}
	if took, err := c.Ping(t.Context()); err != nil || took <= 0 || took > testTimeout {
		t.Errorf("Ping took %v, %v", took, err)
	}
}

// TestVersion1_ReportsErrVersion makes calls that require version 2.
func TestVersion1_ReportsErrVersion(t *testing.T) {
	_, addr := newHub(t)
	c := dialWith(t, addr, 1, &client.Options{Version: 1})[0]
	if c.Version() != 1 {
		t.Errorf("version %d", c.Version())
	}
	_, report := c.SendReport(t.Context(), nil, nil, nil)
	_, page := c.ListPage(t.Context(), 0, 0)
	_, ping := c.Ping(t.Context())
	for _, err := range []error{report, page, ping} {
		if !errors.Is(err, client.ErrVersion) {
			t.Errorf("got %v, want %v", err, client.ErrVersion)
		}
	}
	for _, err := range c.Watch(t.Context()) {
		if !errors.Is(err, client.ErrVersion) {
			t.Errorf("Watch: %v, want %v", err, client.ErrVersion)
		}
	}
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

// TestResume_ManyDisconnects breaks every connection at least ten times, at random moments,
// while all clients send to some others and ask for reports.
func TestResume_ManyDisconnects(t *testing.T) {
	clients, messages, cuts := 100, 300, 10
	if testing.Short() {
		clients, messages = 20, 100
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	// No session ends and no report times out on a busy machine.
	h, addr := newHubWith(t, hub.Config{
		ResumeWindow: time.Hour, StallTimeout: time.Hour, ReportTimeout: time.Hour, MaxQueuedBytes: 1 << 30,
	})
	flaky := make([]*flakyClient, clients)
	for i := range flaky {
		flaky[i] = newFlakyClient(t, addr, i, clients, messages, rand.New(rand.NewPCG(seed, uint64(i))))
	}
	var wg sync.WaitGroup
	for _, fc := range flaky {
		fc.clients = flaky
		wg.Go(fc.send)
		wg.Go(func() { fc.cut(cuts) })
	}
	finished := make(chan struct{})
	go func() { // ends when all messages have arrived, or with the program
		defer close(finished)
		wg.Wait()
		for _, fc := range flaky {
			fc.wait()
		}
	}()
	waitWhileProgressing(t, finished, flaky)
	for _, fc := range flaky {
		fc.check(cuts)
	}
	if s := h.Stats(); s.Fates[wire.FateReceived] != uint64(clients*messages*receiversPerMessage) {
		t.Errorf("the hub has counted %d received messages, want %d", s.Fates[wire.FateReceived], clients*messages*receiversPerMessage)
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
