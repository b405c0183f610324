package main

// newCostScenario returns a scenario that compares variants of the hub under the same
// workload, as ratios to the costs of base. The caller adds the subjects.
func newCostScenario(name, title, note, base string) *scenario {
	return &scenario{
		name: name, title: title, note: note,
		columns: []column{
			{heading: "seconds", value: func(m *measurement) float64 { return m.Seconds }},
			{heading: "CPU s, hub and clients", value: func(m *measurement) float64 { return m.Server.CPU + m.LoadCPU }},
		},
		ratios: costRatios(base),
	}
}

// costRatios returns the ratios of time and processor time to those of base, for the subjects in
// rows or, without rows, for every other subject.
func costRatios(base string, rows ...string) []ratio {
	return []ratio{
		{heading: "time ÷ " + base, base: base, rows: rows, value: func(base, other *measurement) float64 { return other.Seconds / base.Seconds }},
		{heading: "CPU ÷ " + base, base: base, rows: rows, value: func(base, other *measurement) float64 {
			return (other.Server.CPU + other.LoadCPU) / (base.Server.CPU + base.LoadCPU)
		}},
	}
}
