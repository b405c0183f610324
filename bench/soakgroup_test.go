package main

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// soakBody returns a message of a soak.
func soakBody(sender, number uint64) []byte {
	body := make([]byte, 1000)
	binary.BigEndian.PutUint64(body, sender)
	binary.BigEndian.PutUint64(body[8:], number)
	for n := 16; n < len(body); n += 251 {
		body[n] = byte(number)
	}
	return body
}

func TestSoakGroup_HandleMessage(t *testing.T) {
	corrupted := soakBody(2, 7)
	corrupted[16]++
	for _, test := range []struct {
		name    string
		bodies  [][]byte
		problem string // "" for none
	}{
		{"in order, with a gap", [][]byte{soakBody(2, 1), soakBody(2, 200), soakBody(3, 1)}, ""},
		{"twice", [][]byte{soakBody(2, 7), soakBody(2, 7)}, "arrived after"},
		{"out of order", [][]byte{soakBody(2, 7), soakBody(2, 6)}, "arrived after"},
		{"corrupted", [][]byte{corrupted}, "corrupted"},
		{"no header", [][]byte{make([]byte, 15)}, "without a valid header"},
		{"unknown sender", [][]byte{soakBody(soakClients, 1)}, "without a valid header"},
	} {
		g := &soakGroup{}
		for _, body := range test.bodies {
			g.handleMessage(1, body)
		}
		if test.problem == "" && g.problem != "" || !strings.Contains(g.problem, test.problem) {
			t.Errorf("%s: problem %q, want %q", test.name, g.problem, test.problem)
		}
	}
}

func TestSoakGroup_HandleReport(t *testing.T) {
	received, full := &client.Report{Fates: []wire.Fate{wire.FateReceived}}, &client.Report{Fates: []wire.Fate{wire.FateFull}}
	for _, test := range []struct {
		name    string
		report  *client.Report
		err     error
		upgrade bool
		lost    uint64
		unseen  int
		problem bool
	}{
		{name: "received", report: received},
		{name: "received before it arrived", report: received, unseen: 1},
		{name: "below the level", report: full, problem: true},
		{name: "no report", err: errors.New("closed"), problem: true},
		{name: "below the level at an upgrade", report: full, upgrade: true, lost: 1},
		{name: "no report at an upgrade", err: errors.New("closed"), upgrade: true, lost: 1},
	} {
		g := &soakGroup{}
		if test.unseen == 0 {
			g.handleMessage(1, soakBody(2, 7))
		}
		if test.upgrade {
			g.beginUpgrade()
		}
		g.handleReport(2, 7, []int{1}, time.Now(), test.report, test.err)
		if g.sent != 1 || g.lostToUpgrades != test.lost || len(g.unseen) != test.unseen || (g.problem != "") != test.problem {
			t.Errorf("%s: %d sent, %d lost, %d unseen, problem %q", test.name, g.sent, g.lostToUpgrades, len(g.unseen), g.problem)
		}
	}
}

// TestSoakGroup_AfterUpgrade sends one message soon after an upgrade and one much later.
func TestSoakGroup_AfterUpgrade(t *testing.T) {
	g := &soakGroup{}
	g.beginUpgrade()
	g.endUpgrade()
	lost := errors.New("closed")
	g.handleReport(2, 7, []int{1, 3}, time.Now(), nil, lost)
	if g.lostToUpgrades != 2 || g.problem != "" {
		t.Errorf("%d lost, problem %q", g.lostToUpgrades, g.problem)
	}
	g.handleReport(2, 8, []int{1}, time.Now().Add(2*soakReconnectTimeout), nil, lost)
	if g.lostToUpgrades != 2 || !strings.Contains(g.problem, "without an upgrade") {
		t.Errorf("%d lost, problem %q", g.lostToUpgrades, g.problem)
	}
}
