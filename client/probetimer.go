package client

import "time"

// ticksPerProbe is the number of ticks between two probes: 1 s. Slow receivers can delay an ACK
// for minutes.
const ticksPerProbe = int(time.Second / ackDelay)

// probeTimer decides when to probe the hub for one kind of outstanding confirmation.
type probeTimer struct {
	progress  uint64 // value of the progress counter at the last tick that saw progress
	idleTicks int    // ticks without progress since then
}

// shouldProbe is called at each tick. outstanding says that confirmations are missing; progress
// is a counter that changes with each confirmation. shouldProbe returns true at the first tick
// without progress, and then every ticksPerProbe ticks.
func (p *probeTimer) shouldProbe(outstanding bool, progress uint64) bool {
	if !outstanding || p.progress != progress {
		p.progress, p.idleTicks = progress, 0
		return false
	}
	p.idleTicks++
	return p.idleTicks%ticksPerProbe == 1
}
