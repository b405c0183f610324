// Chat is a small chat server over WebSockets, as programs write it with coder/websocket: one
// goroutine reads each connection, and writes each message to all other connections. It is what the
// hub is compared with.
//
// A slow receiver holds up the sender. A server that must not wait would queue or drop messages; this
// one loses none, and is not slower.
//
//	chat ADDRESS     serves at an address, until it is ended
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/coder/websocket"
)

// maxMessage is the maximum size of a message, in bytes.
const maxMessage = 16 << 20

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: chat ADDRESS")
	}
	server := &http.Server{Addr: args[0], Handler: &room{members: map[*websocket.Conn]struct{}{}}}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// room is the clients that are connected.
type room struct {
	mu      sync.RWMutex
	members map[*websocket.Conn]struct{} // guarded by mu
}

// ServeHTTP implements http.Handler.
func (r *room) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	c, err := websocket.Accept(w, request, nil)
	if err != nil {
		return // Accept has answered
	}
	defer c.CloseNow()
	c.SetReadLimit(maxMessage)
	r.add(c)
	defer r.remove(c)
	if err := c.Write(request.Context(), websocket.MessageBinary, []byte("joined")); err != nil {
		return
	}
	for {
		kind, message, err := c.Read(request.Context())
		if err != nil {
			return // the client has left
		}
		r.send(request.Context(), c, kind, message)
	}
}

func (r *room) add(c *websocket.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[c] = struct{}{}
}

func (r *room) remove(c *websocket.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.members, c)
}

// send writes a message to all others. A receiver to which it cannot be written is closed, and its
// own goroutine removes it.
func (r *room) send(ctx context.Context, from *websocket.Conn, kind websocket.MessageType, message []byte) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for c := range r.members {
		if c == from {
			continue
		}
		if err := c.Write(ctx, kind, message); err != nil {
			c.CloseNow()
		}
	}
}
