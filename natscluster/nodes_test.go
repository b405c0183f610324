package natscluster

import (
	"testing"
	"time"
)

func TestNodes_DescribesLiveHubs(t *testing.T) {
	s := startNATS(t, nil)
	config := testConfig(s)
	config.HubName, config.Address, config.Version = "hub-b", "b.example:9999", "v1.2.3"
	a := join(t, testConfig(s))
	join(t, config)
	for range 2 { // of both hubs
		ended := join(t, testConfig(s))
		ended.Close()
	}
	nodes, err := a.Nodes(testContext(t))
	if err != nil || len(nodes) != 2 {
		t.Fatalf("%+v, %v", nodes, err)
	}
	b := nodes[1]
	if nodes[0].Node != 1 || nodes[0].Name != "hub-1" || b.Node != 2 || b.Name != "hub-b" || b.Address != "b.example:9999" || b.Version != "v1.2.3" {
		t.Errorf("%+v", nodes)
	}
	if now := time.Now(); now.Sub(b.Started).Abs() > testTimeout || now.Sub(b.Renewed).Abs() > testTimeout {
		t.Errorf("started %v, renewed %v", b.Started, b.Renewed)
	}
}

func TestNodes_IgnoresOtherKeys(t *testing.T) {
	c := join(t, testConfig(startNATS(t, nil)))
	leases := c.session.Load().buckets.Load().leases
	for _, key := range []string{"lease.x", "lease.0", "lease.4194304", "lease.1.2", "other"} {
		if _, err := leases.PutString(testContext(t), key, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if nodes, err := c.Nodes(testContext(t)); err != nil || len(nodes) != 1 {
		t.Errorf("%+v, %v", nodes, err)
	}
}
