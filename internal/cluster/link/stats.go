package link

import "time"

// Stats describes a link. Counts are those since New, over all generations.
type Stats struct {
	Generation  uint64
	Established bool // a frame of the other hub has come in this generation

	// Bytes of this side's streams. Sent counts each byte once, Resent what was sent again.
	Appended, Sent, Resent, Acked uint64
	Received                      uint64 // bytes of the other hub's streams, passed to OnData

	FramesIn, FramesOut uint64
	Gaps                uint64 // frames that came too early, because others before them are missing
	Duplicates          uint64 // frames with nothing but bytes that had come before
	Invalid             uint64 // frames that make no sense
	Stale               uint64 // frames of an older generation, or for or from another link
	Timeouts            uint64 // how often the other hub did not answer in time
	SendErrors          uint64 // errors of Config.Send
	Breaks              uint64 // how often an established generation has ended

	RTT, SmoothedRTT time.Duration // round trip of a frame and its answer; 0: not known

	Lag      time.Duration // age of the oldest byte that is not acknowledged, at most
	UnderWay uint64        // bytes that were sent and are not acknowledged
	Waiting  uint64        // bytes that were appended and never sent
}

// Stats returns the current values.
func (l *Link) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Generation, s.Established = l.generation, l.peer != 0
	s.RTT, s.SmoothedRTT = time.Duration(l.rtt.last)*time.Microsecond, time.Duration(l.rtt.smoothed)*time.Microsecond
	s.Lag = time.Duration(l.queue.lag(l.Now())) * time.Microsecond
	s.UnderWay, s.Waiting = l.queue.maxSent-l.queue.acked, l.queue.end-l.queue.maxSent
	return s
}
