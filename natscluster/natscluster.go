// Package natscluster connects a hub with the other hubs of its cluster over NATS: core NATS
// carries frames between the hubs, and the key-value store of JetStream holds the leases of their
// numbers.
package natscluster

import "github.com/nats-io/nats.go"

// DefaultURL is where a NATS server listens by default.
const DefaultURL = nats.DefaultURL
