package main

import (
	"context"
	"slices"
	"testing"
)

func TestScenario_FilterSubjects(t *testing.T) {
	s := &scenario{subjects: []subject{
		{name: "hub", systems: []string{"hub"}},
		{name: "both", systems: []string{"hub", "nats"}},
		{name: "nats", systems: []string{"nats"}},
	}}
	s.filterSubjects([]string{"hub", "redis"})
	if len(s.subjects) != 1 || s.subjects[0].name != "hub" {
		t.Errorf("%v, want only the subject that needs no system but hub", s.subjects)
	}
}

func TestScenario_RatioHeadings(t *testing.T) {
	s := &scenario{ratios: []ratio{{heading: "a", base: "x"}, {heading: "b"}, {heading: "a", base: "y"}}}
	if got := s.ratioHeadings(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q", got)
	}
}

func TestRatio_AppliesTo(t *testing.T) {
	all, some := ratio{base: "hub"}, ratio{base: "hub", rows: []string{"nats"}}
	for _, test := range []struct {
		ratio   *ratio
		subject string
		want    bool
	}{{&all, "hub", false}, {&all, "nats", true}, {&some, "nats", true}, {&some, "redis", false}} {
		if got := test.ratio.appliesTo(test.subject); got != test.want {
			t.Errorf("%+v, %s: %v", test.ratio, test.subject, got)
		}
	}
}

func TestSystemSubjects_MeasureTheirSystem(t *testing.T) {
	subjects := systemSubjects([]string{"hub", "nats"}, func(_ context.Context, _ *programs, system string) (*measurement, error) {
		return &measurement{Problem: system}, nil
	})
	for _, sub := range subjects {
		if m, _ := sub.measure(t.Context(), nil); m.Problem != sub.name || !slices.Equal(sub.systems, []string{sub.name}) {
			t.Errorf("%s needs %q and measures %s", sub.name, sub.systems, m.Problem)
		}
	}
}
