package client_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/memorypipe"
	"github.com/sechlol/go-message-hub/wire"
)

// newHubInMemory starts a hub in the synctest bubble of t, and returns what dials it.
func newHubInMemory(t *testing.T, config hub.Config) (*hub.Hub, func(context.Context) (net.Conn, error)) {
	t.Helper()
	h, err := hub.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ln := memorypipe.NewListener()
	served := make(chan error, 1)
	go func() { served <- h.Serve(context.Background(), ln) }() // ends with Shutdown
	t.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-served
	})
	return h, func(context.Context) (net.Conn, error) { return ln.Dial() }
}

// TestRenewal_ThreeExpiries_KeepConnection has two clients whose tokens are valid for 100 s, for
// more than three lifetimes. They exchange a message with a third one each second. Nothing is lost,
// and no connection is replaced.
func TestRenewal_ThreeExpiries_KeepConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lifetime = 100 * time.Second
		h, dialHub := newHubInMemory(t, hub.Config{Authenticate: func(req hub.AuthRequest) (*hub.Permissions, error) {
			var subject string
			var id uint64
			var number int
			if n, err := fmt.Sscan(req.Token, &subject, &id, &number); n < 3 {
				return nil, err
			}
			p := &hub.Permissions{Subject: subject, ID: id}
			if subject != "bystander" {
				p.Expires = time.Now().Add(lifetime)
			}
			return p, nil
		}})
		connect := func(subject string, id uint64) (c *client.Client, tokens *atomic.Int64) {
			tokens = new(atomic.Int64)
			c, err := client.Dial(t.Context(), "", &client.Options{
				Dial: dialHub,
				OnEvent: func(e client.Event) {
					if e.Kind != client.EventClosed {
						t.Errorf("%s: event %v: %v", subject, e.Kind, e.Err)
					}
				},
				GetToken: func(context.Context) (string, error) { return fmt.Sprint(subject, " ", id, " ", tokens.Add(1)), nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c, tokens
		}
		granted, grantedTokens := connect("granted", 7)
		assigned, assignedTokens := connect("assigned", 0)
		bystander, _ := connect("bystander", 8)
		clients := []*client.Client{granted, assigned, bystander}
		before := h.Clients(0, 10)
		for round := range int(35 * lifetime / time.Second / 10) {
			for _, sender := range clients {
				others := slices.DeleteFunc([]uint64{clients[0].ID(), clients[1].ID(), clients[2].ID()}, func(id uint64) bool { return id == sender.ID() })
				report := make(chan error, 1)
				body := strconv.Itoa(round)
				begin := time.Now()
				err := sender.SendFunc(t.Context(), others, []byte(body), nil, func(r *client.Report, err error) {
					if err == nil && !slices.Equal(r.Fates, []wire.Fate{wire.FateReceived, wire.FateReceived}) {
						err = fmt.Errorf("fates %v", r.Fates)
					}
					report <- err
				})
				if err != nil {
					t.Fatal(err)
				}
				for _, receiver := range clients {
					if receiver == sender {
						continue
					}
					m, err := receiver.Receive(t.Context())
					if err != nil || m.From != sender.ID() || string(m.Body) != body {
						t.Fatalf("round %d: %q from %d: %v", round, m.Body, m.From, err)
					}
				}
				if err := <-report; err != nil || time.Since(begin) > time.Second/10 {
					t.Fatalf("round %d: %v after %v", round, err, time.Since(begin))
				}
			}
			time.Sleep(time.Second)
		}
		if a, g := assignedTokens.Load(), grantedTokens.Load(); a < 5 || g < 5 {
			t.Errorf("%d and %d tokens were used", a, g)
		}
		after := h.Clients(0, 10)
		for i := range before {
			if b, a := before[i], after[i]; a.ID != b.ID || a.Since != b.Since || a.Address != b.Address || a.Detached {
				t.Errorf("%+v was %+v", a, b)
			}
		}
		if stats := h.Stats(); stats.Connected != 3 || stats.Resumed != 0 || stats.Renewed < 8 {
			t.Errorf("%d connected, %d resumed, %d renewed", stats.Connected, stats.Resumed, stats.Renewed)
		}
	})
}
