// Package natscluster connects a hub with the other hubs of its cluster over NATS: core NATS
// carries frames between the hubs, and the key-value store of JetStream holds the leases of their
// numbers.
//
// A hub has two connections to its server: that of nats.go, for the leases, and that of package
// natsconn, for the frames. When one of them ends, the hub opens both again.
//
// It does not know what the frames mean, and which hubs are members: package cluster does. On the
// path of a message between two hubs, it is between their links.
//
// # What NATS must provide
//
// JetStream must be enabled, and max_payload must be 64 KiB or more (its default is 1 MiB). All
// subjects of a cluster begin with hub.NAME, and its two buckets are hub_NAME_nodes and
// hub_NAME_leases. Permissions returns the permissions that the NATS user of a hub needs.
//
// A program that can write to these subjects and buckets is trusted: it can send frames to hubs,
// take numbers, and, unless Config.Key is set, read the key of the cluster. An account of its own
// keeps other users of NATS away.
//
// The counter of numbers must not be set back. A single nats-server syncs its files every two
// minutes by default: after a crash of its machine a number could be given twice. Either run
// three servers, or set sync_interval to always in the jetstream block.
package natscluster

import (
	"errors"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/cluster/lease"
)

// DefaultURL is where a NATS server listens by default.
const DefaultURL = nats.DefaultURL

// DefaultName is the default of Config.Name.
const DefaultName = "hub"

// The permanent errors of Join, besides those of an invalid Config.
var (
	// ErrOtherKey means that the hubs of the cluster use another key than this one.
	ErrOtherKey = errors.New("another key")

	// ErrUsedUp means that 4,194,303 hubs have started in the cluster.
	ErrUsedUp = lease.ErrUsedUp
)

// ErrNotConnected is the error of what needs a connection to NATS while there is none.
var ErrNotConnected = errors.New("not connected to NATS")

// Permissions returns the subjects that the NATS user of a hub of this cluster must be permitted
// to publish and subscribe to. Fewer are not enough, unless the buckets exist already: then
// $JS.API.INFO and $JS.API.STREAM.CREATE are not needed.
func Permissions(name string) (publish, subscribe []string) {
	own := "hub." + name + ".>"
	publish = []string{own, "$JS.API.INFO"}
	for _, bucket := range []string{nodesBucket(name), leasesBucket(name)} {
		publish = append(publish,
			"$JS.API.STREAM.CREATE.KV_"+bucket, "$JS.API.STREAM.INFO.KV_"+bucket,
			"$JS.API.DIRECT.GET.KV_"+bucket+".>", "$KV."+bucket+".>")
	}
	return publish, []string{own}
}

func nodesBucket(name string) string  { return "hub_" + name + "_nodes" }
func leasesBucket(name string) string { return "hub_" + name + "_leases" }
func inboxPrefix(name string) string  { return "hub." + name + ".inbox" }

// maxSubject is the maximum length of a subject for frames, in bytes.
const maxSubject = len("hub..to.") + maxName + len("4194303")

func allSubject(name string) string { return string(appendSubject(nil, name, 0)) }

func nodeSubject(name string, to cluster.Node) string { return string(appendSubject(nil, name, to)) }

// appendSubject appends the subject for frames to a hub; 0: to all.
func appendSubject(b []byte, name string, to cluster.Node) []byte {
	b = append(append(b, "hub."...), name...)
	if to == 0 {
		return append(b, ".all"...)
	}
	return strconv.AppendUint(append(b, ".to."...), uint64(to), 10)
}
