package hub_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestConfig_Validate_ChecksRanges checks for each field that its minimum and maximum are
// accepted, and that values just outside are rejected.
func TestConfig_Validate_ChecksRanges(t *testing.T) {
	const day = 24 * time.Hour
	invalid := map[string][]hub.Config{
		"MaxBody":        {{MaxBody: -1}, {MaxBody: wire.MaxBodyLimit + 1, MaxQueuedBytes: 8 << 30}},
		"MaxQueuedBytes": {{MaxQueuedBytes: -1}, {MaxQueuedBytes: 4<<20 - 1}, {MaxQueuedBytes: 1<<50 + 1}, {MaxBody: 100 << 20}, {MaxBody: 1, MaxQueuedBytes: 1<<20 - 1}},
		"MaxClients":     {{MaxClients: -1}, {MaxClients: 1<<30 + 1}},
		"OutboxBytes":    {{OutboxBytes: -1}, {OutboxBytes: 4<<10 - 1}, {OutboxBytes: 1<<30 + 1}},
		"StallTimeout":   {{StallTimeout: -1}, {StallTimeout: time.Millisecond - 1}, {StallTimeout: day + 1}},
		"FrameTimeout":   {{FrameTimeout: -1}, {FrameTimeout: time.Millisecond - 1}, {FrameTimeout: day + 1}},
		"ReportTimeout":  {{ReportTimeout: -1}, {ReportTimeout: time.Millisecond - 1}, {ReportTimeout: day + 1}},
		"MaxReportTimeout": {{MaxReportTimeout: -1}, {MaxReportTimeout: day + 1}, {MaxReportTimeout: time.Minute - 1},
			{ReportTimeout: time.Hour, MaxReportTimeout: time.Hour - 1}},
		"MinRate":         {{MinRate: -1}, {MinRate: 1<<30 + 1}},
		"TraceSampleRate": {{TraceSampleRate: -1}, {TraceSampleRate: 1<<30 + 1}},
		"MaxWatchers":     {{MaxWatchers: -1}, {MaxWatchers: 1<<30 + 1}},
	}
	for field, configs := range invalid {
		for _, config := range configs {
			h, err := hub.New(config)
			if err == nil {
				shutdownHub(t, h)
			}
			if err == nil || !strings.Contains(err.Error(), "hub: "+field+" is ") {
				t.Errorf("%+v: %v, want an error that names %s", config, err, field)
			}
			if got := config.Validate(); fmt.Sprint(got) != fmt.Sprint(err) {
				t.Errorf("%+v: Validate says %v, New says %v", config, got, err)
			}
		}
	}
	valid := []hub.Config{
		{},
		{ReportTimeout: time.Millisecond, MaxReportTimeout: time.Millisecond},
		{ReportTimeout: 2 * time.Hour},
		{ReportTimeout: day, MaxReportTimeout: day},
		{MaxBody: 1, MaxQueuedBytes: 1 << 20, MaxClients: 1, OutboxBytes: 4 << 10, MinRate: 1, StallTimeout: time.Millisecond, FrameTimeout: time.Millisecond},
		{MaxBody: wire.MaxBodyLimit, MaxQueuedBytes: 1 << 50, MaxClients: 1 << 30, OutboxBytes: 1 << 30, MinRate: 1 << 30, StallTimeout: day, FrameTimeout: day},
	}
	for _, config := range valid {
		if err := config.Validate(); err != nil {
			t.Errorf("%+v: Validate says %v", config, err)
		}
		h, err := hub.New(config)
		if err != nil {
			t.Errorf("%+v: %v", config, err)
			continue
		}
		shutdownHub(t, h)
	}
}

// shutdownHub shuts down a hub that serves no listener.
func shutdownHub(t *testing.T, h *hub.Hub) {
	t.Helper()
	if err := h.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestConfig_Validate_ErrorNamesRange(t *testing.T) {
	_, err := hub.New(hub.Config{StallTimeout: time.Microsecond})
	const want = "hub: StallTimeout is 1µs, must be from 1ms to 24h0m0s"
	if fmt.Sprint(err) != want {
		t.Errorf("got %q, want %q", fmt.Sprint(err), want)
	}
}

// TestConfig_Minimum_Serves serves clients with the smallest values that Config accepts.
func TestConfig_Minimum_Serves(t *testing.T) {
	h := start(t, hub.Config{MaxBody: 1000, MaxQueuedBytes: 1 << 20, MaxClients: 12, OutboxBytes: 4 << 10, StallTimeout: testTimeout})
	var clients []*clientV1
	var ids []uint64
	for range 10 {
		clients = append(clients, h.connectV1(t))
		ids = append(ids, clients[len(clients)-1].id)
	}
	for _, c := range clients {
		background(t, func() error { return c.sendNumbered(ids, 100, 1000) })
	}
	parallel(t, len(clients), func(i int) error {
		for range 100 * len(clients) {
			if _, _, err := clients[i].readFrame(); err != nil {
				return err
			}
		}
		return nil
	})
}
