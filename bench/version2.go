package main

import "context"

// version2Scenario measures the cost of v2 relative to v1, and of reports relative to v2.
func version2Scenario(name string, wl workload) *scenario {
	const classic, newer, withReports = "version 1", "version 2", "version 2, reports at level received"
	s := newCostScenario(name, wl.describe()+", in both versions",
		"`start_simulation -embed -i=0 -verify="+wl.verify+"`: hub and clients are one process.", classic)
	s.ratios = append(s.ratios, costRatios(newer, withReports)...)
	for _, v := range []struct {
		name  string
		flags []string
	}{
		{classic, []string{"-protocol=1"}},
		{newer, []string{"-protocol=2"}},
		{withReports, []string{"-protocol=2", "-report=received"}},
	} {
		s.subjects = append(s.subjects, subject{v.name, []string{"hub"}, func(ctx context.Context, p *programs) (*measurement, error) {
			return simulate(ctx, p, wl, append(v.flags, "-embed")...)
		}})
	}
	return s
}
