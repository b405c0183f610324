package server

import (
	"context"
	"errors"
	"sync"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/admin"
	"github.com/sechlol/go-message-hub/natscluster"
)

// errJoining is the reason why a hub that has not reached NATS yet is not ready.
var errJoining = errors.New("the hub has not joined its cluster yet")

// membership is the membership of the hub in its cluster, if it has one. Its methods can be called
// concurrently.
type membership struct {
	config natscluster.Config // from the settings, static after the start

	// mu guards the fields below.
	mu      sync.Mutex
	cluster *natscluster.Cluster // nil: the hub has not joined
	problem error                // why the last attempt to join has failed; nil: there was none
}

// join makes h a member of the cluster that the settings name, if they do. It waits until NATS can
// be reached, or ctx ends. close must be called after the end of h.
func (m *membership) join(ctx context.Context, s *program, h *hub.Hub) error {
	flags := &s.config.cluster
	if !flags.enabled() {
		return nil
	}
	config := m.config
	config.HubName, config.Address, config.Version, config.Logger = flags.hubName(), flags.address, buildVersion(), s.logger
	config.OnRetry = func(err error) { m.set(nil, err) }
	c, err := natscluster.Join(ctx, config)
	if err != nil {
		return err
	}
	if err := h.JoinCluster(c); err != nil {
		c.Close()
		return err
	}
	m.set(c, nil)
	return nil
}

// set records the state. A later problem leaves the cluster as it is.
func (m *membership) set(c *natscluster.Cluster, problem error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c != nil {
		m.cluster = c
	}
	m.problem = problem
}

// check returns nil if the hub is a member for certain, and otherwise the reason why not.
func (m *membership) check() error {
	m.mu.Lock()
	c, problem := m.cluster, m.problem
	m.mu.Unlock()
	switch {
	case c != nil:
		return c.Err()
	case problem != nil:
		return problem
	}
	return errJoining
}

// close leaves the cluster.
func (m *membership) close() {
	m.mu.Lock()
	c := m.cluster
	m.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

// adminConfig returns what the admin address shows of the cluster, or nil without one.
func (f *clusterFlags) adminConfig(h *hub.Hub, m *membership) *admin.ClusterConfig {
	if !f.enabled() {
		return nil
	}
	return &admin.ClusterConfig{Name: f.name, HubName: f.hubName(), Hubs: h.Hubs, CheckMember: m.check}
}
