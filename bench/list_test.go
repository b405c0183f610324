package main

import "testing"

func TestListScenario_ReceivesLists(t *testing.T) {
	r := measureOnce(t, listScenario(200, 3), "hub")
	if r.Rounds[0]["100 clients request, once a second"].ListSeconds <= 0 {
		t.Error("no client received a list")
	}
}
