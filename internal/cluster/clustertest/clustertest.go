// Package clustertest makes hubs in one process members of a cluster, for tests.
package clustertest

import (
	"sync/atomic"
	"testing"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/cluster/membus"
)

// Member is the membership of a hub in a cluster whose frames travel in memory. It implements
// hub.Cluster.
type Member struct {
	Invalid atomic.Bool // the lease may have run out

	node    cluster.Node
	carrier *membus.Carrier
}

// Join returns a new member of the cluster of bus. At the end of the test it closes the member. The
// hub must be started afterwards, so that it ends before.
func Join(t testing.TB, bus *membus.Bus, node cluster.Node) *Member {
	m := NewMember(bus, node)
	t.Cleanup(m.Close)
	return m
}

// NewMember is Join without the end: the test must call Close.
func NewMember(bus *membus.Bus, node cluster.Node) *Member {
	return &Member{node: node, carrier: bus.Join(node)}
}

// Close closes the carrier of the member. The hub must have ended.
func (m *Member) Close() { m.carrier.Close() }

// Node implements hub.Cluster.
func (m *Member) Node() cluster.Node { return m.node }

// Carrier implements hub.Cluster.
func (m *Member) Carrier() cluster.Carrier { return m.carrier }

// Key implements hub.Cluster. All members have the same key.
func (m *Member) Key() []byte { return []byte("key") }

// Valid implements hub.Cluster.
func (m *Member) Valid() bool { return !m.Invalid.Load() }
