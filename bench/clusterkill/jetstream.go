package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// leasesStream is the stream in which the hubs hold their leases.
const leasesStream = "KV_hub_" + clusterName + "_leases"

// leaseLeader returns the number of the NATS server that leads leasesStream.
func (a *arena) leaseLeader() (leader int, err error) {
	for timeout := time.Now().Add(startTimeout); time.Now().Before(timeout); {
		if leader, err = a.askForLeader(); err == nil {
			return leader, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return 0, fmt.Errorf("find the leader of %s: %w", leasesStream, err)
}

// askForLeader asks a NATS server once.
func (a *arena) askForLeader() (int, error) {
	nc, err := nats.Connect(a.natsURLs(), nats.Timeout(2*time.Second))
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, leasesStream)
	if err != nil {
		return 0, err
	}
	if cluster := stream.CachedInfo().Cluster; cluster != nil {
		for i, s := range a.nats {
			if s.name == cluster.Leader {
				return i, nil
			}
		}
	}
	return 0, errors.New("it has none")
}
