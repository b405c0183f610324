package admin

import (
	"bytes"
	"testing"
)

func TestProfiles(t *testing.T) {
	s := startHub(t, Config{})
	for _, path := range []string{"heap", "goroutine", "profile?seconds=1", "trace?seconds=1"} {
		if got := s.get("/debug/pprof/" + path); len(got) < 100 {
			t.Errorf("%s has only %d bytes", path, len(got))
		}
	}
	if got := s.get("/debug/pprof/goroutine?debug=2"); !bytes.Contains(got, []byte("TestProfiles")) {
		t.Errorf("the goroutine profile is %.200s", got)
	}
	if got := s.get("/debug/pprof/"); !bytes.Contains(got, []byte("heap")) {
		t.Errorf("the list of profiles is %.200s", got)
	}
}
