package cluster

import "github.com/sechlol/go-message-hub/internal/relay"

// An id that a hub of a cluster assigns consists of
//
//	bit  63      set: no granted id and no id of a lone hub has it
//	bits 41–62   Node of the hub
//	bits  0–40   counter, from 1: enough for 2,000 connections per second in 34 years
const (
	clusterBit   = 1 << 63
	counterBits  = 41
	nodeMask     = uint64(MaxNode)
	reservedHalf = counterBits - 1
)

// FirstID returns the first id that a hub assigns.
func FirstID(node Node) uint64 { return clusterBit | uint64(node)<<counterBits | 1 }

// FirstIDOfUpperHalf returns the first id of the upper half of those that a hub can assign.
func FirstIDOfUpperHalf(node Node) uint64 { return FirstID(node) + 1<<reservedHalf }

// NodeOf returns the hub that has assigned an id, and false if no hub of a cluster has.
func NodeOf(id uint64) (Node, bool) {
	node := Node(id >> counterBits & nodeMask)
	return node, id&clusterBit != 0 && node != 0
}

// Route stores in found[i] the hub that has assigned ids[i], if found[i] is nil and that hub is
// another one that is up: a client that has just connected there is perhaps not known here yet, and
// that hub knows for certain.
func (c *Cluster) Route(ids []uint64, found []relay.Destination) {
	for i, dest := range found {
		if dest != nil {
			continue
		}
		if node, ok := NodeOf(ids[i]); ok {
			if p := c.peer(node); p != nil && p.isUp() {
				found[i] = &p.remote
			}
		}
	}
}
