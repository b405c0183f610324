// Package admission decides which connections are accepted from an address, and how fast a
// client may send. It decides only: the hub rejects connections, and does not read from a client
// that must wait.
//
// On the path of a message, the hub asks a RateLimiter between two reads, for clients that have
// one.
package admission
