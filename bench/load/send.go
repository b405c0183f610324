package main

import "time"

// send sends all messages of sender s. With a rate it is an open loop: message k is due at a
// fixed time, regardless of earlier messages.
func (tr *transfer) send(s int, begin time.Time) {
	body := make([]byte, tr.plan.size)
	// The senders start at different times within the first interval; otherwise all of them would
	// send at the same moment in every interval.
	firstDue := begin.Add(tr.interval * time.Duration(s) / time.Duration(tr.plan.senders))
	for k := range tr.plan.messages {
		if tr.interval > 0 && !tr.waitUntilDue(firstDue.Add(time.Duration(k)*tr.interval)) {
			return
		}
		putHeader(body, s, k)
		more := tr.interval == 0 && k+1 < tr.plan.messages
		if err := tr.conns[s].send(tr.plan.receivers(s, k), body, more); err != nil {
			tr.rejected.Add(uint64(tr.plan.fanout))
			tr.fail(err)
			if !tr.tolerant || tr.isStopped() {
				return
			}
		}
	}
}

// waitUntilDue waits until a message is due. It returns false when the run is stopped.
func (tr *transfer) waitUntilDue(due time.Time) bool {
	time.Sleep(time.Until(due))
	return !tr.isStopped()
}
