package natscluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/cluster/lease"
)

// NodeInfo describes a hub that has a lease.
type NodeInfo struct {
	Node                   cluster.Node
	Name, Address, Version string    // from its Config
	Started                time.Time // by its clock
	Renewed                time.Time // when its lease was last renewed, by the clock of NATS
}

// Nodes returns the hubs that have a lease, this one too, in the order of their numbers. A hub
// that died is among them for 15 s: see Renewed.
func (c *Cluster) Nodes(ctx context.Context) ([]NodeInfo, error) {
	b, err := c.currentBuckets(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the hubs: %w", err)
	}
	bucket := leasesBucket(c.config.Name)
	stream, err := b.js.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return nil, fmt.Errorf("list the hubs: %w", err)
	}
	prefix := "$KV." + bucket + "." + lease.KeyPrefix
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(prefix+">"))
	if err != nil {
		return nil, fmt.Errorf("list the hubs: %w", err)
	}
	var nodes []NodeInfo
	for subject := range info.State.Subjects {
		number, err := strconv.ParseUint(strings.TrimPrefix(subject, prefix), 10, 32)
		if err != nil || number == 0 || number > uint64(cluster.MaxNode) {
			continue
		}
		node, err := readNode(ctx, b.leases, cluster.Node(number))
		if errors.Is(storeError(err), lease.ErrNotFound) {
			continue // it has ended
		}
		if err != nil {
			return nil, fmt.Errorf("list the hubs: %w", err)
		}
		nodes = append(nodes, node)
	}
	slices.SortFunc(nodes, func(a, b NodeInfo) int { return cmp.Compare(a.Node, b.Node) })
	return nodes, nil
}

func readNode(ctx context.Context, leases jetstream.KeyValue, n cluster.Node) (NodeInfo, error) {
	entry, err := leases.Get(ctx, lease.Key(n))
	if err != nil {
		return NodeInfo{}, err
	}
	var info lease.Info
	if err := json.Unmarshal(entry.Value(), &info); err != nil {
		return NodeInfo{}, fmt.Errorf("lease of hub %d: %w", n, err)
	}
	return NodeInfo{n, info.Name, info.Address, info.Version, info.Started, entry.Created()}, nil
}
