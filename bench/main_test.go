package main

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"

	hubpkg "github.com/sechlol/go-message-hub/hub"
)

// The tests of the scenarios start real programs. They do not measure speed: they fail when a
// program does not start, when a message is lost, or when a figure is missing. To check the
// speed, run go run . -scenario smoke.

// testPrograms holds the programs, which the first test that needs them builds.
var testPrograms struct {
	make sync.Once
	*programs
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if testPrograms.programs != nil {
		testPrograms.remove()
	}
	os.Exit(code)
}

// newTestPrograms returns the programs of this checkout. It skips the test if a system is not
// installed.
func newTestPrograms(t *testing.T, systems ...string) *programs {
	t.Helper()
	for _, name := range systems {
		if name == "limit" {
			continue
		}
		if err := findSystem(name).checkInstalled(); err != nil {
			t.Skip(err)
		}
	}
	// Built once for all tests. The context of one test would end too early.
	testPrograms.make.Do(func() {
		testPrograms.programs, testPrograms.err = build(context.Background(), []string{"nats", "chat"})
	})
	if testPrograms.err != nil {
		t.Fatal(testPrograms.err)
	}
	return testPrograms.programs
}

// measureOnce runs one round of a scenario, with the subjects that need only the given systems,
// and checks that the first figure of each subject is present.
func measureOnce(t *testing.T, s *scenario, systems ...string) *result {
	t.Helper()
	p := newTestPrograms(t, systems...)
	s.filterSubjects(systems)
	r, err := measureRounds(t.Context(), p, s, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range s.subjects {
		if first := s.columns[0]; first.value(r.Rounds[0][sub.name]) <= 0 {
			t.Errorf("no %q of %s", first.heading, sub.name)
		}
	}
	return r
}

// startTestHub starts a hub in this process until the end of the test, and returns its address.
func startTestHub(t *testing.T) string {
	t.Helper()
	h, err := hubpkg.New(hubpkg.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	ctx := context.WithoutCancel(t.Context())
	go func() { served <- h.Serve(ctx, ln) }() // ends with Shutdown; the cleanup waits
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, waitTimeout)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		<-served
	})
	return ln.Addr().String()
}
