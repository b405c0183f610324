package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNewEndpoints_Order(t *testing.T) {
	const addr = "a:1, b,hub://c:3"
	want := []string{"a:1", "b", "hub://c:3"}
	firsts := make(map[string]int)
	for range 300 {
		firsts[endpointAddrs(t, addr, Options{})[0]]++
	}
	for _, a := range want {
		if n := firsts[a]; n < 50 { // 100 on average; fewer than 50 has a probability below 1e-9
			t.Errorf("%d of 300 clients begin with %s", n, a)
		}
	}
	if got := endpointAddrs(t, addr, Options{InOrder: true}); !slices.Equal(got, want) {
		t.Errorf("in order: %q, want %q", got, want)
	}
	dial := func(context.Context) (net.Conn, error) { return nil, errors.New("no way") }
	if got := endpointAddrs(t, "x,y", Options{Dial: dial}); !slices.Equal(got, []string{"x,y"}) {
		t.Errorf("with Options.Dial: %q, want one address", got)
	}
}

// endpointAddrs returns the addresses of newEndpoints, which must have one of each.
func endpointAddrs(t *testing.T, addr string, options Options) (addrs []string) {
	t.Helper()
	endpoints, err := newEndpoints(addr, &options)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range endpoints {
		if slices.Contains(addrs, e.addr) {
			t.Errorf("%s comes twice", e.addr)
		}
		addrs = append(addrs, e.addr)
	}
	return addrs
}

func TestNewEndpoints_Errors(t *testing.T) {
	for addr, want := range map[string]string{
		"a:1,":        `client: address "": missing host`,
		"a:1,,b":      `client: address "": missing host`,
		"a:1,http://": "unknown scheme http://",
		"a,a:9999":    "a:9999 is listed twice",
		"hubs://a,b":  "some have the prefix hubs:// and some have not",
		"b,hubs://a":  "some have the prefix hubs:// and some have not",
	} {
		if _, err := newEndpoints(addr, &Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", addr, err, want)
		}
	}
	if _, err := newEndpoints("a,hub://b", &Options{TLS: new(tls.Config)}); err == nil || !strings.Contains(err.Error(), "use hubs://b") {
		t.Errorf("an address without TLS: %v", err)
	}
}

func TestAttemptRounds_Next(t *testing.T) {
	a := attemptRounds{size: 3}
	a.restart(2)
	var order []int
	for i := range 7 {
		if a.isDone() != (i%3 == 0) {
			t.Errorf("before attempt %d: a round is done: %v", i, a.isDone())
		}
		order = append(order, a.next())
	}
	if want := []int{2, 0, 1, 2, 0, 1, 2}; !slices.Equal(order, want) || a.begun != 3 {
		t.Errorf("attempts %v in %d rounds, want %v in 3", order, a.begun, want)
	}
	a.end()
	if !a.isDone() || a.next() != 2 || a.begun != 4 {
		t.Errorf("after end: %+v, want a new round", a)
	}
	a.restart(3)
	if !a.isDone() || a.begun != 0 || a.next() != 0 {
		t.Errorf("after restart: %+v, want the first round, with 0", a)
	}
}

func TestLimitAttempt_SharesTime(t *testing.T) {
	for _, test := range []struct {
		left        int           // attempts
		timeout     time.Duration // 0: no deadline
		want        time.Duration
		wantContext error
	}{
		{3, 0, maxDialTimeout, nil},
		{1, 0, maxDialTimeout, nil},
		{3, time.Hour, maxDialTimeout, nil},
		{3, 9 * time.Second, 3 * time.Second, nil},
		{1, 9 * time.Second, 9 * time.Second, nil},
		{2, -time.Second, 0, context.DeadlineExceeded},
	} {
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if test.timeout != 0 {
			ctx, cancel = context.WithTimeout(ctx, test.timeout)
		}
		attempt, stop := limitAttempt(ctx, test.left)
		deadline, _ := attempt.Deadline()
		if got := max(0, time.Until(deadline)); got > test.want || got < test.want-testTimeout/10 || !errors.Is(attempt.Err(), test.wantContext) {
			t.Errorf("%d left of %v: %v (%v), want %v", test.left, test.timeout, got, attempt.Err(), test.want)
		}
		stop()
		cancel()
	}
}
