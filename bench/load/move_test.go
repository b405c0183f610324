package main

import (
	"testing"
	"time"
)

// TestMoveConfig_Rate has ten clients that make 900 deliveries a second for two seconds, to all
// nine others: 10 messages a second of each client.
func TestMoveConfig_Rate(t *testing.T) {
	c := moveConfig{clients: 10, size: 100, messages: 7, rate: 900, seconds: 2}
	p, err := c.plan()
	if err != nil {
		t.Fatal(err)
	}
	if p.senders != 10 || p.messages != 20 {
		t.Errorf("%d senders of %d messages, want 10 of 20", p.senders, p.messages)
	}
	if got := c.sendInterval(p); got != 100*time.Millisecond {
		t.Errorf("interval %v, want 100ms", got)
	}
	c.rate = 0
	if p, err = c.plan(); err != nil || p.messages != 7 || c.sendInterval(p) != 0 {
		t.Errorf("without a rate: %d messages, interval %v, %v", p.messages, c.sendInterval(p), err)
	}
}
