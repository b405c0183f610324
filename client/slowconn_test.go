package client_test

import (
	"bytes"
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// pipeListener is a listener of in-memory connections, for virtual time.
type pipeListener chan net.Conn

func (p pipeListener) Accept() (net.Conn, error) {
	if nc, ok := <-p; ok {
		return nc, nil
	}
	return nil, net.ErrClosed
}

func (p pipeListener) Close() error   { return nil }
func (p pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipeListener) dial(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	p <- far
	return near, nil
}

// slowConn limits reads to a number of bytes per second.
type slowConn struct {
	net.Conn
	rate int
}

func (c slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:min(len(b), c.rate/4)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.rate))
	return n, err
}

// TestReceive_SlowConnection receives a large message and then a small one. Below 1 KiB per
// second the large message does not arrive; its fate says so, and the small message arrives.
func TestReceive_SlowConnection(t *testing.T) {
	for _, test := range []struct {
		rate int // bytes per second
		want wire.Fate
	}{
		{2 << 10, wire.FateReceived},
		{500, wire.FateUnreachable},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, err := hub.New(hub.Config{MaxReportTimeout: time.Hour, ReportTimeout: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			ln := make(pipeListener)
			served := make(chan error, 1)
			go func() { served <- h.Serve(context.Background(), ln) }() // ends with Shutdown
			defer func() {
				close(ln)
				if err := h.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
				<-served
			}()
			sender, err := client.Dial(t.Context(), "", &client.Options{Dial: ln.dial})
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			lost := 0
			receiver, err := client.Dial(t.Context(), "", &client.Options{
				Dial: func(ctx context.Context) (net.Conn, error) {
					nc, err := ln.dial(ctx)
					return slowConn{nc, test.rate}, err
				},
				OnEvent: func(e client.Event) {
					if e.Kind == client.EventDisconnected {
						lost++
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer receiver.Close()
			large := bytes.Repeat([]byte("x"), 200_000)
			report := make(chan *client.Report, 2)
			for _, body := range [][]byte{large, []byte("small")} {
				err := sender.SendFunc(t.Context(), []uint64{receiver.ID()}, body, nil, func(r *client.Report, err error) {
					if err != nil {
						t.Error(err)
					}
					report <- r
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if test.want == wire.FateReceived {
				if m, err := receiver.Receive(t.Context()); err != nil || !bytes.Equal(m.Body, large) {
					t.Errorf("received %d bytes (%v)", len(m.Body), err)
				}
			}
			if m, err := receiver.Receive(t.Context()); err != nil || string(m.Body) != "small" {
				t.Errorf("received %d bytes (%v), want the small message", len(m.Body), err)
			}
			for seq, want := range []wire.Fate{test.want, wire.FateReceived} {
				if r := <-report; r == nil || r.Seq != uint64(seq+1) || len(r.Fates) != 1 || r.Fates[0] != want {
					t.Errorf("reported %+v, want message %d: %v", r, seq+1, want)
				}
			}
			if want := map[wire.Fate]int{wire.FateUnreachable: 5}[test.want]; lost != want {
				t.Errorf("%d connections were lost, want %d", lost, want)
			}
		})
	}
}
