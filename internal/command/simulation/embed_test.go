package simulation

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
)

func TestStartHubs_OneHasNoNATS(t *testing.T) {
	e, err := startHubs(t.Context(), 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer e.shutdown(t.Context())
	var stats bytes.Buffer
	if err := e.printStats(&stats); err != nil || !strings.HasPrefix(stats.String(), "\nThe hub inside this program:\n") {
		t.Errorf("statistics %s, %v", &stats, err)
	}
	if e.nats != nil || strings.Contains(e.addrs(), ",") {
		t.Errorf("hubs at %s, NATS %v, want one hub without NATS", e.addrs(), e.nats)
	}
}

func TestStartHubs_SeveralShareNATS(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	e, err := startHubs(t.Context(), 3, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	natsAddr := strings.TrimPrefix(e.nats.url, "nats://")
	nc, err := net.Dial("tcp", natsAddr)
	if err != nil {
		t.Error(err)
	} else {
		nc.Close()
	}
	addrs := strings.Split(e.addrs(), ",")
	for i, h := range e.hubs {
		c, err := client.Dial(t.Context(), addrs[i], nil)
		if err != nil {
			t.Fatal(err)
		}
		if hubsUp(h.Hub) != 3 || h.Hub.Stats().Clients != 1 {
			t.Errorf("hub %d knows %d hubs and has %d clients", i, hubsUp(h.Hub), h.Hub.Stats().Clients)
		}
		c.Close()
	}
	var stats bytes.Buffer
	if err := e.printStats(&stats); err != nil || !strings.Contains(stats.String(), "\nHub 3 of 3 inside this program, "+addrs[2]+":\n") {
		t.Errorf("statistics %s, %v", &stats, err)
	}
	e.shutdown(context.Background())
	if _, err := net.Dial("tcp", natsAddr); err == nil {
		t.Error("the NATS server still listens")
	}
	checkNoFiles(t)
}

// checkNoFiles checks that the directory of temporary files is empty.
func checkNoFiles(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) > 0 {
		t.Errorf("%v are left (%v)", left, err)
	}
}

// TestStartHubs_Aborted_LeavesNothing checks that nothing is left when hubs cannot join.
func TestStartHubs_Aborted_LeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := startHubs(ctx, 3, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that the start was aborted", err)
	}
	checkNoFiles(t)
}

// TestSimulation_Cluster runs a simulation over three hubs.
func TestSimulation_Cluster(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	got := programtest.Run(Run, append(smallLoad, "-embed=3")...)
	if got.Code != command.ExitOK || !strings.Contains(got.Stdout, "Hub 3 of 3 inside this program") {
		t.Errorf("exit code %d, %s%s", got.Code, got.Stdout, got.Stderr)
	}
	checkNoFiles(t)
}

// TestSimulator_EmbedValues checks that the flag needs no value.
func TestSimulator_EmbedValues(t *testing.T) {
	for text, want := range map[string]int{"-embed": 1, "-embed=true": 1, "-embed=1": 1, "-embed=false": 0, "-embed=0": 0, "-embed=3": 3, "-embed=9": 9} {
		c := newSimulator()
		if err := c.settings.Read([]string{text}); err != nil || c.embed != want {
			t.Errorf("%s: %d, %v, want %d", text, c.embed, err, want)
		}
	}
}
