package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
)

const (
	reloaded    = `"msg":"configuration reloaded"`
	notReloaded = `"msg":"the configuration was not reloaded, everything stays as it was"`
)

// rewrite gives a config file another text, all at once.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.Rename(configFile(t, text), path); err != nil {
		t.Fatal(err)
	}
}

// refused reports whether the hub lets nobody else in.
func refused(t *testing.T, port string) bool {
	t.Helper()
	c, err := client.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port), nil)
	if err == nil {
		c.Close()
	}
	return err != nil
}

// changes returns the fields of the lines that tell of changed settings.
func changes(t *testing.T, log string) (lines []string) {
	t.Helper()
	for line := range strings.Lines(log) {
		var event struct{ Level, Msg, Setting, Old, New, Source string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if event.Setting != "" {
			lines = append(lines, fmt.Sprintf("%s %s: %s %s %s", event.Level, event.Msg, event.Setting, event.Old, event.New))
		}
	}
	return lines
}

// TestReloadRaisesMaxClients goes the whole way once, under connected clients.
func TestReloadRaisesMaxClients(t *testing.T) {
	path := configFile(t, "max-clients 1")
	s, port := startServer(t, "-config="+path)
	dial(t, port)
	if !refused(t, port) {
		t.Error("a second client was let in")
	}
	rewrite(t, path, "max-clients 2")
	log := s.reload(reloaded)
	if got, want := changes(t, log), []string{"INFO setting changed: max-clients 1 2"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("logged %q, want %q", got, want)
	}
	if !strings.Contains(log, `"source":"`+path+`:1"`) {
		t.Errorf("the log does not say where it stands: %s", log)
	}
	dial(t, port)
	if !refused(t, port) {
		t.Error("a third client was let in")
	}
	if log := s.reload(reloaded); len(changes(t, log)) > 0 {
		t.Errorf("a second reload changes something: %s", log)
	}
}

func TestReloadSetsTheLogLevel(t *testing.T) {
	path := configFile(t, "log-level info")
	s, port := startServer(t, "-config="+path)
	rewrite(t, path, "log-level debug")
	s.reload(reloaded)
	dial(t, port)
	s.awaitLine(&s.stderr, "client speaks version 2")
	rewrite(t, path, "log-level error\nport 99999")
	s.reload(notReloaded)
	rewrite(t, path, "log-level error")
	before := len(s.stderr.String())
	s.reloads <- os.Interrupt
	s.reloads <- os.Interrupt                       // taken when the one before is done
	rewrite(t, path, "log-level error\nport 99999") // says when that one is done
	s.reload(notReloaded)
	if after := s.stderr.String()[before:]; strings.Contains(after, reloaded) {
		t.Errorf("still logs what it should not: %s", after)
	}
}

// TestReloadOfWhatCountsAtTheEnd changes how the server ends.
func TestReloadOfWhatCountsAtTheEnd(t *testing.T) {
	path := configFile(t, "drain 24h")
	s, port := startServer(t, "-config="+path, "-stall=24h")
	stuffed := stuff(t, port)
	defer stuffed.Close()
	rewrite(t, path, "drain 50ms\nstat=false")
	s.reload(reloaded)
	if got := s.interrupt(); got.code != ExitOK || got.stdout != "" || !strings.Contains(got.stderr, `"drain":"50ms"`) {
		t.Errorf("exit code %d, stdout %q, stderr %s", got.code, got.stdout, got.stderr)
	}
}

func TestReloadTellsWhatTakesARestart(t *testing.T) {
	path := configFile(t, "stall 1s\ndrain 1s")
	s, _ := startServer(t, "-config="+path)
	rewrite(t, path, "stall 2s\nmax-body=1KiB\ndrain 1s\nport 1") // a flag beats the last
	want := []string{
		"WARN setting takes a restart to change: max-body 1MiB 1KiB",
		"WARN setting takes a restart to change: stall 1s 2s",
	}
	for range 2 { // as long as it is so
		if got := changes(t, s.reload(reloaded)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("logged %q, want %q", got, want)
		}
	}
	rewrite(t, path, "stall 1s\ndrain 1s")
	if got := changes(t, s.reload(reloaded)); len(got) > 0 {
		t.Errorf("logged %q", got)
	}
}

// TestWrongReloadChangesNothing has a right line beside the wrong one.
func TestWrongReloadChangesNothing(t *testing.T) {
	path := configFile(t, "max-clients 1")
	s, port := startServer(t, "-config="+path)
	dial(t, port)
	s.awaitLine(&s.stderr, "client connected")
	for text, want := range map[string]string{
		"max-clients 2\nport 99999":      path + ":2: port 99999: allowed are whole numbers from 0 to 65535",
		"max-clients 2\nmax-clients 3":   path + ":2: max-clients is set in line 1 already",
		"max-clients 2\nprot 1":          path + `:2: \"prot\" is not a setting that a file can have, is port meant?`,
		"max-clients 2\nmax-memory=1MiB": "-max-memory=1MiB is too little for -max-body=1MiB: that takes ",
	} {
		rewrite(t, path, text)
		if log := s.reload(notReloaded); strings.Count(log, "\n") != 1 || !strings.Contains(log, `"error":"`+want) {
			t.Errorf("logged %s, want one line with %s", log, want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.reload(notReloaded)
	if !refused(t, port) {
		t.Error("a second client was let in")
	}
	rewrite(t, path, "max-clients 2")
	s.reload(reloaded)
	if refused(t, port) {
		t.Error("no second client was let in")
	}
}

// TestReloadOfWhatCanBeReadOnce stands for a pipe of the shell, -config=<(…).
func TestReloadOfWhatCanBeReadOnce(t *testing.T) {
	var log output
	c := parseServer(t, "-config="+os.DevNull)
	c.reload([]string{"-config=" + os.DevNull}, newLogger(&log, logJSON, slog.LevelInfo))
	if !strings.Contains(log.String(), "is not a regular file and can be read only once") {
		t.Errorf("logged %s", &log)
	}
}

// TestPartsFollowTogether has one that reads a file that no setting names, and one that may
// refuse.
func TestPartsFollowTogether(t *testing.T) {
	var log output
	logger := newLogger(&log, logJSON, slog.LevelInfo)
	file := filepath.Join(t.TempDir(), "part")
	rewrite(t, file, "one")
	c := parseServer(t, "-drain=1s")
	var has string
	var refusal error
	c.follow(func(next *server) (apply func(), err error) {
		text, err := os.ReadFile(file)
		return func() { has = string(text) }, err
	})
	c.follow(func(next *server) (apply func(), err error) { return nil, refusal })
	apply, err := c.prepare(c)
	if err != nil {
		t.Fatal(err)
	}
	if has != "" {
		t.Error("prepare has applied something")
	}
	apply()

	rewrite(t, file, "two")
	refusal = errors.New("no such key")
	c.reload([]string{"-drain=2s"}, logger)
	if has != "one" || c.drain != time.Second || !strings.Contains(log.String(), `"error":"no such key"`) {
		t.Errorf("a refused reload left %q and %v: %s", has, c.drain, &log)
	}
	refusal = nil
	c.reload([]string{"-drain=2s"}, logger)
	if has != "two" || c.drain != 2*time.Second {
		t.Errorf("a reload left %q and %v: %s", has, c.drain, &log)
	}
	rewrite(t, file, "three")
	c.reload([]string{"-drain=2s"}, logger)
	if has != "three" {
		t.Error("a reload without a changed setting leaves files out")
	}
}

// TestEveryReloadableSettingIsSaid holds the usage to the settings.
func TestEveryReloadableSettingIsSaid(t *testing.T) {
	usage, template := run(Server, "-h").stdout, run(Server, "-print-config").stdout
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\nReloadable are:\n")
	table, _, _ := strings.Cut(rest, "\n- ")
	for _, one := range newServer().settings.list {
		if said := strings.Contains(table, "`"+one.name+"`"); said != one.is(reloadable) {
			t.Errorf("OPERATIONS.md says of %s that it is reloadable: %t", one.name, said)
		}
		if !one.is(reloadable) {
			continue
		}
		_, rest, _ := strings.Cut(usage, "\n  -"+one.name+"=")
		entry, _, _ := strings.Cut(rest, "\n  -")
		if !strings.Contains(entry, "reloadable)") {
			t.Errorf("the usage does not say that -%s is reloadable", one.name)
		}
		if !strings.Contains(newServer().settings.optionText(one), "reloadable)") {
			t.Errorf("the manual page does not say that -%s is reloadable", one.name)
		}
		if !strings.Contains(template, "# Reloadable.\n#"+one.name+" =") {
			t.Errorf("-print-config does not say that %s is reloadable", one.name)
		}
		_, rest, _ = strings.Cut(string(readme), "\n| `-"+one.name+"` |")
		if !strings.Contains(firstLine(rest), "reloadable") {
			t.Errorf("the table in README.md does not say that -%s is reloadable", one.name)
		}
	}
}
