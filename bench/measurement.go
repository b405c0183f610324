package main

// measurement is what one run found. What a scenario does not look at is zero, and
// stands neither in the tables nor in the file.
type measurement struct {
	Seconds    float64 `json:"seconds,omitempty"` // what was to be done took so long
	Deliveries uint64  `json:"deliveries,omitempty"`
	Expected   uint64  `json:"expected,omitempty"`
	Lost       uint64  `json:"lost,omitempty"`
	Faults     uint64  `json:"faults,omitempty"`  // twice, out of order, or damaged
	Rejected   uint64  `json:"refused,omitempty"` // of those lost: the client library said so; of a flood: the hub ended the connection
	Problem    string  `json:"problem,omitempty"` // what a client complained about first

	P50 float64 `json:"p50_seconds,omitempty"`
	P90 float64 `json:"p90_seconds,omitempty"`
	P99 float64 `json:"p99_seconds,omitempty"`
	Max float64 `json:"max_seconds,omitempty"`

	P99Before       float64 `json:"p99_before_seconds,omitempty"` // the same, while nobody did harm
	HeldConns       uint64  `json:"held,omitempty"`               // connections of those who do
	MadeConns       uint64  `json:"made,omitempty"`               // by them, in all
	CutConns        uint64  `json:"cut,omitempty"`                // connections of others that the hub ended
	MemoryGrowthMiB float64 `json:"mib_more,omitempty"`           // resident memory of the server beside before

	KiBPerSilentConn   float64 `json:"kib_each_silent,omitempty"` // of a connection that never said a word
	KiBPerConn         float64 `json:"kib_each,omitempty"`        // of one that was answered once
	KiBPerConnVersion2 float64 `json:"kib_each_2,omitempty"`      // of one that speaks version 2
	Visits             uint64  `json:"visits,omitempty"`
	Attempts           uint64  `json:"tries,omitempty"`         // of a flood
	MeasureSeconds     float64 `json:"took_seconds,omitempty"`  // to measure, within Seconds
	ListSeconds        float64 `json:"lists_seconds,omitempty"` // until all that asked have their list

	Server  usage   `json:"server"`
	LoadCPU float64 `json:"load_cpu_seconds,omitempty"`

	MovingCPU float64 `json:"server_cpu_moving_seconds,omitempty"` // of the server, while messages moved

	Memory []memorySample `json:"memory,omitempty"` // of the server, second by second

	FilesBefore float64 `json:"files_before,omitempty"` // descriptors of the server
	FilesAfter  float64 `json:"files_after,omitempty"`
	QueuedBytes float64 `json:"queued_bytes,omitempty"` // that it holds for clients who have left

	GoroutinesBefore int     `json:"goroutines_before,omitempty"`
	GoroutinesAfter  int     `json:"goroutines_after,omitempty"`
	HeapFirst        float64 `json:"heap_first_mib,omitempty"` // live, after the first run
	HeapLast         float64 `json:"heap_last_mib,omitempty"`  // and after the last
}

// rate returns deliveries per second.
func (m *measurement) rate() float64 { return float64(m.Deliveries) / m.Seconds }

// cpuPerDelivery returns the processor time of a delivery in seconds, for server and
// clients together. It suffers less from who else uses the machine than a time
// does.
func (m *measurement) cpuPerDelivery() float64 {
	return (m.Server.CPU + m.LoadCPU) / float64(m.Deliveries)
}

// visitRate returns visits per second.
func (m *measurement) visitRate() float64 { return float64(m.Visits) / m.Seconds }
