// Package cluster connects the hubs of a cluster: it knows which hubs are members, which clients
// each of them has, and passes messages on to them.
//
// It does not know how frames travel between hubs: a Carrier does that, over NATS or within a
// test. It has no consensus and no clock in common with other hubs. It does not read what clients
// send: a batch comes from package relay already encoded.
//
// On the path of a message, the package is both an end and a beginning. A batch for clients of
// another hub comes from package relay as a relay.Transfer and leaves by a link. At the other hub
// it comes out of the link and goes to package relay, as if a client had sent it.
package cluster

// Node is the number of a hub in its cluster: the incarnation number that its start has taken. It
// names one start of a hub: a hub that is started again has another number. 0 is no hub, and as a
// destination all others.
type Node uint32

// MaxNode is the largest Node: 22 bits, which leave 41 bits of an id for the clients of each start
// of a hub.
const MaxNode Node = 1<<22 - 1

// MaxFrame is the maximum size of a frame between hubs, in bytes: 64 KiB with the 128 bytes that
// are left for a carrier. Larger frames gain little speed, and delay what is small behind them; and
// nats-server reads 64 KiB at a time, and copies what is not within one read.
const MaxFrame = 64<<10 - 128

// Carrier carries frames between the hubs of a cluster. Frames can be lost, doubled, delayed and
// reordered. Its methods can be called concurrently.
type Carrier interface {
	// Send sends a frame of at most MaxFrame bytes to a hub; 0: to all others. It does not keep
	// frame. It can block while the network does, for a few seconds at most. It returns an error
	// if the frame was not sent.
	Send(to Node, frame []byte) error

	// Receive has handle called for each frame that arrives, one at a time. handle must not keep
	// frame, and must not block. Receive is called once.
	Receive(handle func(frame []byte))

	// Close ends the carrier. After it, handle is not called any more.
	Close() error
}
