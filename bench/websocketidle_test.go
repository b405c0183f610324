package main

import "testing"

func TestWebIdleScenario_EachSystem(t *testing.T) {
	r := measureOnce(t, webIdleScenario(1000), "hub", "nats", "chat")
	if len(r.Rounds[0]) != 4 || r.Rounds[0][webIdleHub].KiBInUse <= 0 {
		t.Errorf("%+v", r.Rounds[0])
	}
}
