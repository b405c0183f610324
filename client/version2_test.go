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

// patience is how long a test waits for something that must happen.
const patience = 30 * time.Second

// line is the way to a hub, which can be cut.
type line struct {
	addr string

	mu     sync.Mutex
	nc     net.Conn
	made   int
	closed bool // nothing gets through
	events chan client.Event
}

func newLine(addr string) *line { return &line{addr: addr, events: make(chan client.Event, 1000)} }

// options are those of a client on this line.
func (l *line) options() *client.Options {
	return &client.Options{Dial: l.dial, OnEvent: func(e client.Event) { l.events <- e }}
}

func (l *line) dial(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.New("the line is down")
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", l.addr)
	l.nc, l.made = nc, l.made+1
	return nc, err
}

// cut breaks the connection, by a reset or an end.
func (l *line) cut(reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reset {
		_ = l.nc.(*net.TCPConn).SetLinger(0)
	}
	l.nc.Close()
}

func (l *line) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made
}

// down cuts the line for as long as it says so.
func (l *line) down(yes bool) {
	l.mu.Lock()
	l.closed = yes
	l.mu.Unlock()
	if yes {
		l.cut(true)
	}
}

// want waits for an event of a kind. Those before it must be of the kinds in between, or of
// attempts to come back that have failed.
func (l *line) want(t testing.TB, kind client.EventKind, between ...client.EventKind) client.Event {
	t.Helper()
	for {
		select {
		case e := <-l.events:
			if e.Kind == kind {
				return e
			}
			if e.Kind != client.EventReconnectFailed && !slices.Contains(between, e.Kind) {
				t.Fatalf("event %v (%v), want %v", e.Kind, e.Err, kind)
			}
		case <-time.After(patience):
			t.Fatalf("still not: the event %v", kind)
		}
	}
}

// join connects a client over the line.
func (l *line) join(t testing.TB, change ...func(*client.Options)) *client.Client {
	t.Helper()
	o := l.options()
	for _, f := range change {
		f(o)
	}
	c, err := client.Dial(t.Context(), l.addr, o)
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

func TestReportsAtEachLevel(t *testing.T) {
	_, addr := newHub(t)
	clients := dial(t, addr, 3)
	a, done, rejecting := clients[0], clients[1], clients[2]
	classic := dialWith(t, addr, 1, &client.Options{Version: 1})[0]
	to := []uint64{done.ID(), 9999, rejecting.ID(), classic.ID()}
	answer := func(c *client.Client, judge func(client.Message)) {
		m, err := c.Receive(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		if m.From != a.ID() || string(m.Body) != "hello" || time.Since(m.Time()).Abs() > time.Minute {
			t.Errorf("got %q from %d at %v", m.Body, m.From, m.Time())
		}
		judge(m)
	}
	for _, test := range []struct {
		level wire.Level
		want  []wire.Fate
	}{
		{wire.LevelProcessed, []wire.Fate{wire.FateProcessed, wire.FateUnknown, wire.FateRejected, wire.FateWritten}},
		{wire.LevelReceived, []wire.Fate{wire.FateReceived, wire.FateUnknown, wire.FateReceived, wire.FateWritten}},
	} {
		var wg sync.WaitGroup
		wg.Go(func() { answer(done, client.Message.Done) })
		wg.Go(func() { answer(rejecting, client.Message.Reject) })
		r, err := a.SendReport(t.Context(), to, []byte("hello"), &client.SendOptions{Level: test.level})
		wantFates(t, r, err, test.want...)
		wg.Wait()
		if n := r.Reached(wire.LevelWritten); n != len(to)-1 && test.level == wire.LevelReceived {
			t.Errorf("%d have reached the level, want %d", n, len(to)-1)
		}
	}
}

// TestReceivedIsWhatTheApplicationHas looks at messages that lie in the inbox.
func TestReceivedIsWhatTheApplicationHas(t *testing.T) {
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
	wantFates(t, <-reported, nil, wire.FateReceived) // after a while, for b does not come back for more
}

func TestALostConnectionIsNotNoticed(t *testing.T) {
	h, addr := newHub(t)
	la, lb := newLine(addr), newLine(addr)
	a, b := la.join(t), lb.join(t)
	ids := []uint64{a.ID(), b.ID()}
	for i, l := range []*line{la, lb, la, lb} {
		l.cut(i%2 == 0)
		if err := a.Send(t.Context(), ids[1:], []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if m, err := b.Receive(t.Context()); err != nil || string(m.Body) != fmt.Sprint(i) || m.From != ids[0] {
			t.Fatalf("received %q from %d, %v", m.Body, m.From, err)
		}
		l.want(t, client.EventDisconnected)
		l.want(t, client.EventResumed)
	}
	if others, err := a.List(t.Context()); err != nil || !slices.Equal(others, ids[1:]) {
		t.Errorf("List: %v, %v", others, err)
	}
	if a.ID() != ids[0] || b.ID() != ids[1] {
		t.Errorf("ids are %d and %d", a.ID(), b.ID())
	}
	if n := h.Stats().Resumed; n != 4 {
		t.Errorf("%d came back, want 4", n)
	}
}

// TestComingBackTooLate has a client that is away for longer than the hub knows it.
func TestComingBackTooLate(t *testing.T) {
	for _, resend := range []bool{false, true} {
		t.Run(fmt.Sprintf("resend=%v", resend), func(t *testing.T) {
			_, addr := hubWith(t, hub.Config{ResumeWindow: 50 * time.Millisecond})
			l := newLine(addr)
			a := l.join(t, func(o *client.Options) { o.Resend = resend })
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
			l.down(true)
			l.want(t, client.EventDisconnected)
			gone(t, b, first)
			if err := a.Send(t.Context(), []uint64{b.ID()}, []byte("sent while away")); err != nil {
				t.Fatal(err)
			}
			l.down(false)
			e := l.want(t, client.EventNewID, client.EventDisconnected)
			if e.ID == first || a.ID() != e.ID || e.Unconfirmed != 0 {
				t.Errorf("the event is %+v, the id was %d and is %d", e, first, a.ID())
			}
			want := []string{"sent while away"}
			if resend {
				want = []string{"reported", "sent while away"}
			} else if err := <-outcome; !errors.Is(err, client.ErrForgotten) {
				t.Errorf("the report says %v, want %v", err, client.ErrForgotten)
			}
			for _, want := range want {
				m, err = b.Receive(t.Context())
				if err != nil || string(m.Body) != want || m.From != e.ID {
					t.Errorf("received %q from %d, %v; want %q from %d", m.Body, m.From, err, want, e.ID)
				}
				m.Done()
			}
			if resend {
				if err := <-outcome; err != nil {
					t.Errorf("the report of what was sent again: %v", err)
				}
			}
		})
	}
}

// TestAWorkerThatAnswers receives and sends in one loop, while others send it more than it
// can answer: what the hub tells it about its answers does not wait behind their messages.
func TestAWorkerThatAnswers(t *testing.T) {
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
	if stats := h.Stats(); stats.Disconnected[hub.ReasonStalled] != 0 {
		t.Errorf("disconnected: %v", stats.Disconnected)
	}
}

// TestPagesAtOnce gives each caller its own.
func TestPagesAtOnce(t *testing.T) {
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

// gone waits until a client knows that another has left.
func gone(t testing.TB, watcher *client.Client, id uint64) {
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

// TestWhatIsUnconfirmedIsTold breaks off in the middle of much that nobody receives.
func TestWhatIsUnconfirmedIsTold(t *testing.T) {
	h, addr := hubWith(t, hub.Config{ResumeWindow: time.Millisecond, OutboxBytes: 4 << 10})
	l := newLine(addr)
	a := l.join(t)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close() // it reads nothing but its id
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
	l.down(true)
	l.want(t, client.EventDisconnected)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if _, known := h.Client(a.ID()); !known {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("still not: the hub has forgotten it")
		}
	}
	l.down(false)
	if e := l.want(t, client.EventNewID); e.Unconfirmed < 1 || e.Unconfirmed > sent {
		t.Errorf("%d of %d messages are unconfirmed", e.Unconfirmed, sent)
	}
}

func TestAHubThatSendsAway(t *testing.T) {
	h, addr := newHub(t)
	l := newLine(addr)
	c := l.join(t)
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	e := l.want(t, client.EventDisconnected)
	var away *client.GoAwayError
	if !errors.As(e.Err, &away) || away.Code != wire.GoAwayShutdown || !away.Reconnect || !errors.Is(e.Err, client.ErrHubClosed) {
		t.Errorf("the event says %v", e.Err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if e := l.want(t, client.EventClosed); !errors.Is(e.Err, client.ErrClosed) {
		t.Errorf("closed: %v", e.Err)
	}
}

func TestWatch(t *testing.T) {
	_, addr := newHub(t)
	l := newLine(addr)
	c := l.join(t)
	there := map[uint64]bool{}
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
				if there[id] {
					t.Errorf("%d joined twice", id)
				}
				there[id] = true
			}
			for _, id := range p.Left {
				if !there[id] {
					t.Errorf("%d left, and was not there", id)
				}
				delete(there, id)
			}
			select {
			case seen <- slices.Sorted(maps.Keys(there)):
			case <-ctx.Done():
			}
		}
	})
	want := []uint64{c.ID()}
	wantSeen := func() {
		t.Helper()
		for deadline := time.After(patience); ; {
			select {
			case now := <-seen:
				if slices.Equal(now, want) {
					return
				}
			case <-deadline:
				t.Fatalf("still not: %v", want)
			}
		}
	}
	wantSeen()
	others := dial(t, addr, 3)
	for _, o := range others {
		want = append(want, o.ID())
	}
	wantSeen()
	l.cut(true)
	l.want(t, client.EventDisconnected)
	others[1].Close()
	want = slices.Delete(want, 2, 3)
	wantSeen()
	second, stop := context.WithCancel(t.Context())
	defer stop()
	for p, err := range c.Watch(second) { // begins with who is there
		if err != nil || !slices.Equal(p.Joined, want) || p.Left != nil {
			t.Errorf("a second watch begins with %v, %v, want %v", p, err, want)
		}
		break
	}
}

// TestAWatchThatIsNotAllowed ends with a reason, and not with silence.
func TestAWatchThatIsNotAllowed(t *testing.T) {
	_, addr := hubWith(t, hub.Config{Admit: func(hub.Applicant) (*hub.Grant, error) { return &hub.Grant{NoWatch: true}, nil }})
	for _, err := range dial(t, addr, 1)[0].Watch(t.Context()) {
		if !errors.Is(err, client.ErrMayNotWatch) {
			t.Errorf("Watch: %v, want %v", err, client.ErrMayNotWatch)
		}
	}
}

// TestAWatchTooMany watches where somebody else has the only place, which is free later.
func TestAWatchTooMany(t *testing.T) {
	_, addr := hubWith(t, hub.Config{MaxWatchers: 1})
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
	for range 2 { // the second is asked anew
		if err := watch(both[1]); !errors.Is(err, client.ErrTooManyWatchers) || !strings.Contains(err.Error(), "1 clients watch already") {
			t.Errorf("Watch: %v, want %v", err, client.ErrTooManyWatchers)
		}
	}
	close(release)
	wg.Wait()
	for deadline := time.Now().Add(patience); watch(both[1]) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("there is still no place")
		}
	}
}

func TestPagesAndPing(t *testing.T) {
	_, addr := newHub(t)
	clients := dial(t, addr, 5)
	c := clients[2]
	var want, all []uint64
	for _, one := range clients {
		want = append(want, one.ID())
	}
	for after, more := uint64(0), true; more; {
		p, err := c.ListPage(t.Context(), after, 2)
		if err != nil || p.Total != 5 || len(p.IDs) > 2 {
			t.Fatalf("page %+v, %v", p, err)
		}
		all, more = append(all, p.IDs...), p.More
		after = p.IDs[len(p.IDs)-1]
	}
	slices.Sort(want)
	if !slices.Equal(all, want) {
		t.Errorf("the pages are %v, want %v", all, want)
	}
	if _, err := c.ListPage(t.Context(), 0, -1); err == nil {
		t.Error("a limit of -1 is allowed")
	}
	if took, err := c.Ping(t.Context()); err != nil || took <= 0 || took > patience {
		t.Errorf("Ping took %v, %v", took, err)
	}
}

// TestVersion1HasNoReports asks for what takes version 2.
func TestVersion1HasNoReports(t *testing.T) {
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

// TestAReceiverThatIsAbandoned is killed with messages in hand: what it has not
// received is uncertain, or was never written.
func TestAReceiverThatIsAbandoned(t *testing.T) {
	_, addr := hubWith(t, hub.Config{ResumeWindow: time.Millisecond})
	a := dial(t, addr, 1)[0]
	l := newLine(addr)
	b := l.join(t)
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
	had := 20
	for range had {
		if _, err := b.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l.down(true)
	wg.Wait()
	for i, r := range reports {
		switch fate := r.Fates[0]; {
		case fate == wire.FateReceived && i >= had:
			t.Errorf("message %d is received, and was not", i)
		case fate != wire.FateReceived && fate != wire.FateUncertain && fate != wire.FateGone:
			t.Errorf("message %d is %v", i, fate)
		}
	}
}

// TestManyCuts has every connection break at least ten times, at random moments, while
// everybody sends to a few others and asks for reports.
func TestManyCuts(t *testing.T) {
	clients, messages, cuts := 100, 300, 10
	if testing.Short() {
		clients, messages = 20, 100
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	h, addr := hubWith(t, hub.Config{ // nobody is forgotten, and no report is early, on a machine that is busy
		ResumeWindow: time.Hour, StallTimeout: time.Hour, ReportTimeout: time.Hour, MaxQueuedBytes: 1 << 30,
	})
	all := make([]*commuter, clients)
	for i := range all {
		all[i] = newCommuter(t, addr, i, clients, messages, rand.New(rand.NewPCG(seed, uint64(i))))
	}
	var wg sync.WaitGroup
	for _, m := range all {
		m.ids = all
		wg.Go(m.send)
		wg.Go(func() { m.cut(cuts) })
	}
	finished := make(chan struct{})
	go func() { // ends when all has come, or with the program
		defer close(finished)
		wg.Wait()
		for _, m := range all {
			m.wait()
		}
	}()
	awaitWhileItMoves(t, finished, all)
	for _, m := range all {
		m.check(cuts)
	}
	if s := h.Stats(); s.Fates[wire.FateReceived] != uint64(clients*messages*receivers) {
		t.Errorf("%d received by the hub's books, want %d", s.Fates[wire.FateReceived], clients*messages*receivers)
	}
}

// awaitWhileItMoves waits for the end for as long as anything arrives or is reported.
func awaitWhileItMoves(t *testing.T, end <-chan struct{}, all []*commuter) {
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
		for _, m := range all {
			m.mu.Lock()
			now += m.all + m.told
			m.mu.Unlock()
		}
		if now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < patience {
			continue
		}
		for _, m := range all {
			m.mu.Lock()
			if due := m.messages * receivers; m.all < due || m.told < m.messages {
				t.Logf("client %d got %d messages of %d, and %d reports of %d", m.index, m.all, due, m.told, m.messages)
			}
			m.mu.Unlock()
		}
		t.Fatal("still not everything")
	}
}
