package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/client"
)

// natsBrokerConf is the configuration of the nats-server between hubs: JetStream for the numbers of
// the hubs, the page with its counts, and otherwise the defaults.
const natsBrokerConf = `
listen: "%s"
http: "%s"
jetstream { store_dir: "%s" }
`

// natsRoutedConf is natsConf with a route between two servers.
const natsRoutedConf = natsConf + `
cluster { name: bench, listen: "%s", routes: ["nats://%s", "nats://%s"] }
`

// serverPair is two servers that serve one population of clients: two hubs with a nats-server
// between them, or two nats-servers with a route between them.
type serverPair struct {
	programs      *programs
	first, second *server
	broker        *server // between two hubs; nil between two nats-servers
	brokerPage    string  // URL of the page with the counts of broker
	brokerURL     string
}

// startPair starts two servers of a system of the load program: hub, hub2 or nats.
func startPair(ctx context.Context, p *programs, system string) (pair *serverPair, err error) {
	if system == "nats" {
		return startRoutedNATS(ctx, p)
	}
	if pair, err = startBroker(ctx, p); err != nil {
		return nil, err
	}
	for _, s := range []**server{&pair.first, &pair.second} {
		if *s, err = pair.startHub(ctx); err != nil {
			pair.kill()
			return nil, err
		}
	}
	if err = pair.awaitMembers(ctx); err != nil {
		pair.kill()
		return nil, err
	}
	return pair, nil
}

// startBroker starts the nats-server of a pair of hubs.
func startBroker(ctx context.Context, p *programs) (*serverPair, error) {
	addrs, err := freeAddrs(2)
	if err != nil {
		return nil, err
	}
	store := filepath.Join(p.dir, "jetstream-"+portOf(addrs[0]))
	conf, err := p.writeFile("nats-broker.conf", fmt.Sprintf(natsBrokerConf, addrs[0], addrs[1], store))
	if err != nil {
		return nil, err
	}
	pair := &serverPair{programs: p, brokerPage: "http://" + addrs[1] + "/varz", brokerURL: "nats://" + addrs[0]}
	pair.broker, err = startProcess(ctx, "nats", addrs[0], p.path("nats-server"), "-c", conf)
	return pair, err
}

// startHub starts a hub with the broker.
func (sp *serverPair) startHub(ctx context.Context, flags ...string) (*server, error) {
	return startHubWith(ctx, sp.programs, append([]string{"-cluster=" + sp.brokerURL, "-log-level=warn"}, flags...)...)
}

// startRoutedNATS starts two nats-servers with a route between them.
func startRoutedNATS(ctx context.Context, p *programs) (*serverPair, error) {
	addrs, err := freeAddrs(4)
	if err != nil {
		return nil, err
	}
	pair := &serverPair{programs: p}
	for i, s := range []**server{&pair.first, &pair.second} {
		conf, err := p.writeFile(fmt.Sprintf("nats-routed-%d.conf", i), fmt.Sprintf(natsRoutedConf, addrs[i], addrs[2+i], addrs[2], addrs[3]))
		if err == nil {
			*s, err = startProcess(ctx, "nats", addrs[i], p.path("nats-server"), "-c", conf)
		}
		if err != nil {
			pair.kill()
			return nil, err
		}
	}
	return pair, nil
}

// awaitMembers waits until each of two hubs knows the clients of the other.
func (sp *serverPair) awaitMembers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	var clients []*client.Client
	for _, s := range []*server{sp.first, sp.second} {
		c, err := client.Dial(ctx, s.addr, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		clients = append(clients, c)
	}
	for _, c := range clients {
		if err := awaitTotal(ctx, c, len(clients)); err != nil {
			return fmt.Errorf("the hubs do not find each other: %w", err)
		}
	}
	return nil
}

// awaitTotal waits until a client of a hub is told that so many clients are connected.
func awaitTotal(ctx context.Context, c *client.Client, total int) error {
	for {
		page, err := c.ListPage(ctx, 0, 1)
		if err != nil || page.Total >= total {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// servers returns the servers that run.
func (sp *serverPair) servers() []*server {
	return slices.DeleteFunc([]*server{sp.first, sp.second, sp.broker}, func(s *server) bool { return s == nil })
}

func (sp *serverPair) kill() {
	for _, s := range sp.servers() {
		s.kill()
	}
}

// stop stops the servers, and returns what they have used together.
func (sp *serverPair) stop() (sum usage, err error) {
	for _, s := range sp.servers() {
		used, stopErr := s.stop()
		sum.CPU += used.CPU
		sum.PeakMiB += used.PeakMiB
		err = errors.Join(err, stopErr)
	}
	return sum, err
}

// withPair starts two servers, calls measure with them, and stops them.
func withPair(ctx context.Context, p *programs, system string, measure func(*serverPair) (*measurement, error)) (*measurement, error) {
	pair, err := startPair(ctx, p, system)
	if err != nil {
		return nil, err
	}
	m, err := measure(pair)
	used, stopErr := pair.stop()
	if err = errors.Join(err, stopErr); err != nil {
		return nil, err
	}
	m.Server = used
	return m, nil
}

// loadFlags returns the flags of the load program for a pair whose first n clients are at the first
// server.
func (sp *serverPair) loadFlags(n int) []string {
	return []string{"-other=" + sp.second.addr, fmt.Sprintf("-first=%d", n)}
}

// move runs a move of the load program with its first n clients at the first server.
func (sp *serverPair) move(ctx context.Context, system string, n int, flags ...string) (*measurement, error) {
	l, err := startLoad(ctx, sp.programs, "move", system, sp.first.addr, append(sp.loadFlags(n), flags...)...)
	if err != nil {
		return nil, err
	}
	if err := l.waitUntilMoving(); err != nil {
		return nil, err
	}
	m, err := l.finish()
	if err != nil {
		return nil, err
	}
	return m, m.validate(sp.first.name)
}

// freeAddrs returns n addresses with different free ports.
func freeAddrs(n int) (addrs []string, err error) {
	for len(addrs) < n {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}
