package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/command/serve"
	"github.com/sechlol/go-message-hub/internal/natsserver"
	"github.com/sechlol/go-message-hub/natscluster"
)

// clusterName is the name of the cluster of several hubs.
const clusterName = "simulation"

// joinTimeout is how long the hubs have to join their cluster, and joinInterval how often they are
// asked. They need about 100 ms.
const (
	joinTimeout  = 30 * time.Second
	joinInterval = 5 * time.Millisecond
)

// embeddedHubs are the hubs inside the program. Several hubs are a cluster.
type embeddedHubs struct {
	hubs   []*embeddedHub
	nats   *embeddedNATS // nil with one hub
	logger *slog.Logger
}

// startHubs starts n hubs, each on a free port of the loopback interface. If there are several, it
// also starts a NATS server, over which they are a cluster. The caller must call shutdown.
func startHubs(abortCtx context.Context, n int, logger *slog.Logger) (*embeddedHubs, error) {
	e := &embeddedHubs{logger: logger}
	if err := e.start(abortCtx, n); err != nil {
		e.shutdown(abortCtx)
		return nil, err
	}
	return e, nil
}

func (e *embeddedHubs) start(abortCtx context.Context, n int) (err error) {
	if n > 1 {
		if e.nats, err = startNATS(); err != nil {
			return err
		}
	}
	for i := range n {
		h, err := e.startHub(abortCtx, fmt.Sprintf("hub-%d", i+1))
		if err != nil {
			return err
		}
		e.hubs = append(e.hubs, h)
	}
	return e.waitJoined(abortCtx)
}

// waitJoined waits until all hubs of a cluster know each other, for at most joinTimeout.
func (e *embeddedHubs) waitJoined(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, joinTimeout, errors.New("the hubs inside this program do not find each other"))
	defer cancel()
	tick := time.NewTicker(joinInterval)
	defer tick.Stop()
	for _, h := range e.hubs {
		for e.nats != nil && hubsUp(h.Hub) < len(e.hubs) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// hubsUp returns how many hubs of its cluster h can send messages to, itself included.
func hubsUp(h *hub.Hub) (up int) {
	for _, other := range h.Hubs() {
		if other.State == "up" {
			up++
		}
	}
	return up
}

// addrs returns the addresses of all hubs, separated by commas.
func (e *embeddedHubs) addrs() string {
	var addrs []string
	for _, h := range e.hubs {
		addrs = append(addrs, h.addr)
	}
	return strings.Join(addrs, ",")
}

// shutdown closes the hubs, and then the NATS server. All clients of the program must have left
// before.
func (e *embeddedHubs) shutdown(abortCtx context.Context) {
	for _, h := range e.hubs {
		if err := h.Close(abortCtx, serve.DefaultDrainTimeout); err != nil {
			e.logger.Warn("some queued messages of the embedded hub could not be delivered", "addr", h.addr, "error", err)
		}
		if h.membership != nil {
			h.membership.Close()
		}
	}
	if e.nats == nil {
		return
	}
	if err := e.nats.close(); err != nil {
		e.logger.Warn("cannot remove the files of the embedded NATS server", "error", err)
	}
}

// printStats prints the statistics of each hub.
func (e *embeddedHubs) printStats(w io.Writer) error {
	for i, h := range e.hubs {
		title := "The hub inside this program:"
		if len(e.hubs) > 1 {
			title = fmt.Sprintf("Hub %d of %d inside this program, %s:", i+1, len(e.hubs), h.addr)
		}
		if _, err := fmt.Fprintln(w, "\n"+title); err != nil {
			return err
		}
		if _, err := h.Hub.Stats().WriteTo(w); err != nil {
			return err
		}
	}
	return nil
}

// embeddedHub is a hub inside a program that has another purpose.
type embeddedHub struct {
	*serve.Running
	addr       string
	membership *natscluster.Cluster // nil without a cluster
}

// startHub starts a hub on a free port of the loopback interface, in the cluster if there is one.
func (e *embeddedHubs) startHub(abortCtx context.Context, name string) (*embeddedHub, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &embeddedHub{addr: ln.Addr().String()}
	config := hub.Config{Logger: e.logger, Name: name, Address: h.addr}
	if e.nats != nil {
		joinCtx, cancel := context.WithTimeout(abortCtx, joinTimeout)
		defer cancel()
		h.membership, err = natscluster.Join(joinCtx, natscluster.Config{
			URLs: []string{e.nats.url}, Name: clusterName, HubName: name, Address: h.addr, Logger: e.logger,
		})
		if err != nil {
			ln.Close()
			return nil, err
		}
		config.Cluster = h.membership
	}
	running, err := hub.New(config)
	if err != nil {
		ln.Close()
		if h.membership != nil {
			h.membership.Close()
		}
		return nil, err
	}
	h.Running = serve.Start(abortCtx, running, ln)
	return h, nil
}

// embeddedNATS is a NATS server inside the program, with its files in a temporary directory.
type embeddedNATS struct {
	url  string // for clients of NATS
	stop func() // ends the server and waits for it
	dir  string
}

// startNATS starts a NATS server on a free port of the loopback interface.
func startNATS() (*embeddedNATS, error) {
	dir, err := os.MkdirTemp("", "start_simulation-nats-")
	if err != nil {
		return nil, err
	}
	s, err := natsserver.Start(dir, nil)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop := func() {
		s.Shutdown()
		s.WaitForShutdown()
	}
	return &embeddedNATS{s.ClientURL(), stop, dir}, nil
}

// close ends the server and removes its files.
func (n *embeddedNATS) close() error {
	n.stop()
	return os.RemoveAll(n.dir)
}
