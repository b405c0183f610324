package main

import (
	"errors"
	"testing"
)

// shortKills is the number of faults of the short form, which takes about a minute.
const shortKills = 6

// TestClusterKill_ShortForm kills, stops and cuts hubs and NATS servers of a cluster, and checks
// that every message, fate and list is right. -short skips it, and the log has its seed.
func TestClusterKill_ShortForm(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes about a minute")
	}
	if err := checkNamespaces(t.Context()); errors.Is(err, errNoNamespaces) {
		t.Skip(err)
	}
	m := measureOnce(t, clusterKillScenario(shortKills, 0), "hub", "nats").Rounds[0]["hub"]
	if m.MadeConns != shortKills || m.Deliveries == 0 || m.Visits == 0 || m.GoroutinesAfter == 0 {
		t.Errorf("%+v", m)
	}
}
