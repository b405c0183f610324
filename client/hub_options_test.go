package client_test

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestOptions_MaxBody sends bodies to clients with the limit of the hub, and to a client with a
// smaller limit. That client gets FateTooLarge, and all clients get the next message.
func TestOptions_MaxBody(t *testing.T) {
	const allowed = 3 << 20
	_, addr := newHubWith(t, hub.Config{MaxBody: allowed, MaxQueuedBytes: 128 << 20})
	clients := dialWith(t, addr, 3, nil)
	sender, to := clients[0], []uint64{clients[1].ID(), clients[2].ID()}
	small := dialWith(t, addr, 1, &client.Options{MaxBody: 1 << 20})[0]
	to = append(to, small.ID())
	for _, size := range []int{1 << 20, 1<<20 + 1, allowed, 5} {
		body := bytes.Repeat([]byte{byte(size)}, size)
		want := []wire.Fate{wire.FateReceived, wire.FateReceived, wire.FateReceived}
		receivers := []*client.Client{clients[1], clients[2], small}
		if size > 1<<20 {
			want[2], receivers = wire.FateTooLarge, receivers[:2]
		}
		report := make(chan *client.Report, 1)
		err := sender.SendFunc(t.Context(), to, body, nil, func(r *client.Report, err error) {
			if err != nil {
				t.Error(err)
			}
			report <- r
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range receivers {
			m, err := c.Receive(t.Context())
			if err != nil || !bytes.Equal(m.Body, body) {
				t.Fatalf("client %d received %d bytes (%v), want %d", c.ID(), len(m.Body), err, size)
			}
		}
		if r := <-report; r == nil || !slices.Equal(r.Fates, want) {
			t.Errorf("%d bytes: %+v, want %v", size, r, want)
		}
	}
	if err := sender.Send(t.Context(), to, make([]byte, allowed+1)); err == nil {
		t.Error("Send accepts a body above the limit of the hub")
	}
}

// TestOptions_MaxBodyWithPermissions leaves MaxBody to the hub. The hub allows this client
// smaller bodies than others.
func TestOptions_MaxBodyWithPermissions(t *testing.T) {
	_, addr := newHubWith(t, hub.Config{MaxBody: 2 << 20, MaxQueuedBytes: 64 << 20, Authenticate: func(a hub.AuthRequest) (*hub.Permissions, error) {
		if a.Token == "little" {
			return &hub.Permissions{MaxBody: 100}, nil
		}
		return new(hub.Permissions), nil
	}})
	token := func(s string) *client.Options {
		return &client.Options{GetToken: func(context.Context) (string, error) { return s, nil }}
	}
	sender, little := dialWith(t, addr, 1, token("much"))[0], dialWith(t, addr, 1, token("little"))[0]
	body := make([]byte, 2<<20)
	if err := sender.Send(t.Context(), []uint64{little.ID()}, body); err != nil {
		t.Fatal(err)
	}
	if m, err := little.Receive(t.Context()); err != nil || len(m.Body) != len(body) {
		t.Errorf("received %d bytes, %v", len(m.Body), err)
	}
	if err := little.Send(t.Context(), []uint64{sender.ID()}, body[:101]); err == nil {
		t.Error("Send accepts a body above the permitted size")
	}
}
