package main

import "testing"

func TestMeasurement_Validate(t *testing.T) {
	for _, test := range []struct {
		name   string
		m      measurement
		system string
		valid  bool
	}{
		{"complete", measurement{Deliveries: 10, Expected: 10}, "hub", true},
		{"a loss at the hub", measurement{Deliveries: 9, Expected: 10, Lost: 1}, "hub", false},
		{"a fault at the hub", measurement{Deliveries: 10, Expected: 10, Faults: 1}, "hub", false},
		{"a loss at another system", measurement{Deliveries: 9, Expected: 10, Lost: 1, Problem: "slow consumer"}, "nats", true},
		{"an error without a loss", measurement{Deliveries: 10, Expected: 10, Problem: "reset"}, "nats", false},
		{"nothing arrived", measurement{Expected: 10, Lost: 10}, "nats", false},
	} {
		if err := test.m.validate(test.system); (err == nil) != test.valid {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestMeasurement_Rates(t *testing.T) {
	m := measurement{Deliveries: 100, Visits: 50, Seconds: 2, Server: usage{CPU: 3}, LoadCPU: 1}
	if m.rate() != 50 || m.visitRate() != 25 || m.cpuPerDelivery() != 0.04 {
		t.Errorf("%v deliveries/s, %v visits/s, %v CPU s for a delivery", m.rate(), m.visitRate(), m.cpuPerDelivery())
	}
}
