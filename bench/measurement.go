package main

import "fmt"

// measurement is the result of one run. Fields that a scenario does not measure are zero, and
// appear neither in the tables nor in the JSON file.
type measurement struct {
	Seconds    float64 `json:"seconds,omitempty"` // duration of the measured work
	Deliveries uint64  `json:"deliveries,omitempty"`
	Expected   uint64  `json:"expected,omitempty"`
	Lost       uint64  `json:"lost,omitempty"`
	Faults     uint64  `json:"faults,omitempty"` // duplicated, out of order or corrupted
	// Rejected counts the lost messages that the client library reported as failed. For a flood
	// it counts the connections that the hub ended; for a soak, the messages that were not
	// reported as received at an upgrade.
	Rejected uint64 `json:"refused,omitempty"`
	Problem  string `json:"problem,omitempty"` // the first error that a client reported

	P50 float64 `json:"p50_seconds,omitempty"`
	P90 float64 `json:"p90_seconds,omitempty"`
	P99 float64 `json:"p99_seconds,omitempty"`
	Max float64 `json:"max_seconds,omitempty"`

	P50Local     float64 `json:"p50_local_seconds,omitempty"` // P50 within one hub
	CrossedBytes float64 `json:"crossed_bytes,omitempty"`     // between the servers of a cluster

	P99Before float64 `json:"p99_before_seconds,omitempty"` // P99 without hostile clients
	HeldConns uint64  `json:"held,omitempty"`               // connections of hostile clients
	// MadeConns counts all connections that hostile clients made. For a soak it counts the broken
	// connections.
	MadeConns       uint64  `json:"made,omitempty"`
	CutConns        uint64  `json:"cut,omitempty"`      // other connections that the hub ended
	MemoryGrowthMiB float64 `json:"mib_more,omitempty"` // growth of the server's resident memory

	KiBPerSilentConn   float64 `json:"kib_each_silent,omitempty"` // of a silent connection
	KiBPerConn         float64 `json:"kib_each,omitempty"`        // of a connection that got one reply
	KiBPerConnVersion2 float64 `json:"kib_each_2,omitempty"`      // of a v2 connection
	// Of v2 connections: heap and stacks in use, then the same and resident memory after messages.
	KiBInUse              float64 `json:"kib_in_use_2,omitempty"`
	KiBInUseAfterMessages float64 `json:"kib_in_use_2_messages,omitempty"`
	KiBAfterMessages      float64 `json:"kib_each_2_messages,omitempty"`
	Visits                uint64  `json:"visits,omitempty"`
	Attempts              uint64  `json:"tries,omitempty"`         // of a flood
	MeasureSeconds        float64 `json:"took_seconds,omitempty"`  // of the measurement, within Seconds
	ListSeconds           float64 `json:"lists_seconds,omitempty"` // until all requested lists arrived

	Server  usage   `json:"server"`
	LoadCPU float64 `json:"load_cpu_seconds,omitempty"`

	MovingCPU float64 `json:"server_cpu_moving_seconds,omitempty"` // while messages moved

	Memory []memorySample `json:"memory,omitempty"` // of the server, one sample a second

	FilesBefore float64 `json:"files_before,omitempty"` // descriptors of the server
	FilesAfter  float64 `json:"files_after,omitempty"`
	QueuedBytes float64 `json:"queued_bytes,omitempty"` // held for clients that have left

	GoroutinesBefore int     `json:"goroutines_before,omitempty"`
	GoroutinesAfter  int     `json:"goroutines_after,omitempty"`
	HeapFirst        float64 `json:"heap_first_mib,omitempty"` // live heap, after the first run
	HeapLast         float64 `json:"heap_last_mib,omitempty"`  // live heap, after the last run
}

// memorySample is the resident memory of a server at one time of a run.
type memorySample struct {
	Seconds float64 `json:"seconds"` // since the beginning of the run
	MiB     float64 `json:"mib"`
}

// rate returns deliveries per second.
func (m *measurement) rate() float64 { return float64(m.Deliveries) / m.Seconds }

// cpuPerDelivery returns the processor time of a delivery in seconds, of server and clients
// together. Other load on the machine affects it less than elapsed time.
func (m *measurement) cpuPerDelivery() float64 {
	return (m.Server.CPU + m.LoadCPU) / float64(m.Deliveries)
}

// visitRate returns visits per second.
func (m *measurement) visitRate() float64 { return float64(m.Visits) / m.Seconds }

// validate returns an error if the measurement of a move is not a valid result. A loss at the hub
// is an error; a loss at another system is a result.
func (m *measurement) validate(system string) error {
	if system == "hub" && (m.Lost > 0 || m.Faults > 0) {
		return fmt.Errorf("%d of %d deliveries lost, %d duplicated, out of order or corrupted: %s", m.Lost, m.Expected, m.Faults, m.Problem)
	}
	if m.Lost == 0 && m.Problem != "" {
		return fmt.Errorf("client error without a loss: %s", m.Problem)
	}
	if m.Deliveries == 0 {
		return fmt.Errorf("nothing arrived: %s", m.Problem)
	}
	return nil
}
