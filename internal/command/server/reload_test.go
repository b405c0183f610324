package server

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
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/settings"
)

const (
	reloaded    = `"msg":"configuration reloaded"`
	notReloaded = `"msg":"configuration not reloaded, the old settings remain in effect"`
)

// replaceFile replaces the content of a file atomically.
func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.Rename(programtest.WriteConfigFile(t, text), path); err != nil {
		t.Fatal(err)
	}
}

// isFull reports whether the hub rejects another client.
func isFull(t *testing.T, port string) bool {
	t.Helper()
	c, err := client.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port), nil)
	if err == nil {
		c.Close()
	}
	return err != nil
}

// changedSettings returns the fields of the log lines about changed settings.
func changedSettings(t *testing.T, log string) (lines []string) {
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

// TestReload_RaisesMaxClients raises the maximum number of clients by a reload while clients
// are connected.
func TestReload_RaisesMaxClients(t *testing.T) {
	path := programtest.WriteConfigFile(t, "max-clients 1")
	s, port := startServer(t, "-config="+path)
	programtest.Dial(t, port)
	if !isFull(t, port) {
		t.Error("a second client was accepted")
	}
	replaceFile(t, path, "max-clients 2")
	log := s.Reload(reloaded)
	if got, want := changedSettings(t, log), []string{"INFO setting changed: max-clients 1 2"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("logged %q, want %q", got, want)
	}
	if !strings.Contains(log, `"source":"`+path+`:1"`) {
		t.Errorf("the log does not name the source: %s", log)
	}
	programtest.Dial(t, port)
	if !isFull(t, port) {
		t.Error("a third client was accepted")
	}
	if log := s.Reload(reloaded); len(changedSettings(t, log)) > 0 {
		t.Errorf("a second reload changes something: %s", log)
	}
}

func TestReload_SetsLogLevel(t *testing.T) {
	path := programtest.WriteConfigFile(t, "log-level info")
	s, port := startServer(t, "-config="+path)
	replaceFile(t, path, "log-level debug")
	s.Reload(reloaded)
	programtest.Dial(t, port)
	s.WaitForLine(&s.Stderr, "client uses protocol version 2")
	replaceFile(t, path, "log-level error\nport 99999")
	s.Reload(notReloaded)
	replaceFile(t, path, "log-level error")
	before := len(s.Stderr.String())
	s.Reloads <- os.Interrupt
	s.Reloads <- os.Interrupt                           // handled after the previous reload
	replaceFile(t, path, "log-level error\nport 99999") // its failure shows the end of the last one
	s.Reload(notReloaded)
	if after := s.Stderr.String()[before:]; strings.Contains(after, reloaded) {
		t.Errorf("logs lines below the level: %s", after)
	}
}

// TestReload_ChangesDrain changes the settings of shutdown.
func TestReload_ChangesDrain(t *testing.T) {
	path := programtest.WriteConfigFile(t, "drain 24h")
	s, port := startServer(t, "-config="+path, "-stall=24h")
	stalled := dialFullQueue(t, port)
	defer stalled.Close()
	replaceFile(t, path, "drain 50ms\nstat=false")
	s.Reload(reloaded)
	if got := s.Interrupt(); got.Code != command.ExitOK || got.Stdout != "" || !strings.Contains(got.Stderr, `"drain":"50ms"`) {
		t.Errorf("exit code %d, stdout %q, stderr %s", got.Code, got.Stdout, got.Stderr)
	}
}

func TestReload_WarnsOfRestartSettings(t *testing.T) {
	path := programtest.WriteConfigFile(t, "stall 1s\ndrain 1s")
	s, _ := startServer(t, "-config="+path)
	replaceFile(t, path, "stall 2s\nmax-body=1KiB\ndrain 1s\nport 1") // a flag overrides port
	want := []string{
		"WARN setting requires a restart to change: max-body 1MiB 1KiB",
		"WARN setting requires a restart to change: stall 1s 2s",
	}
	for range 2 { // at each reload until it is changed back
		if got := changedSettings(t, s.Reload(reloaded)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("logged %q, want %q", got, want)
		}
	}
	replaceFile(t, path, "stall 1s\ndrain 1s")
	if got := changedSettings(t, s.Reload(reloaded)); len(got) > 0 {
		t.Errorf("logged %q", got)
	}
}

// TestReload_InvalidChangesNothing reloads files with a valid line beside an invalid line.
func TestReload_InvalidChangesNothing(t *testing.T) {
	path := programtest.WriteConfigFile(t, "max-clients 1")
	s, port := startServer(t, "-config="+path)
	programtest.Dial(t, port)
	s.WaitForLine(&s.Stderr, "client connected")
	for text, want := range map[string]string{
		"max-clients 2\nport 99999":      path + ":2: port 99999: allowed are whole numbers from 0 to 65535",
		"max-clients 2\nmax-clients 3":   path + ":2: max-clients is already set in line 1",
		"max-clients 2\nprot 1":          path + `:2: \"prot\" is not a valid setting of a config file, did you mean port?`,
		"max-clients 2\nmax-memory=1MiB": "-max-memory=1MiB is too small for -max-body=1MiB: the minimum is ",
	} {
		replaceFile(t, path, text)
		if log := s.Reload(notReloaded); strings.Count(log, "\n") != 1 || !strings.Contains(log, `"error":"`+want) {
			t.Errorf("logged %s, want one line with %s", log, want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.Reload(notReloaded)
	if !isFull(t, port) {
		t.Error("a second client was accepted")
	}
	replaceFile(t, path, "max-clients 2")
	s.Reload(reloaded)
	if isFull(t, port) {
		t.Error("a second client was rejected")
	}
}

// TestReload_ConfigNotRegularFile uses a device in place of a pipe of the shell, -config=<(…).
func TestReload_ConfigNotRegularFile(t *testing.T) {
	var log programtest.Output
	c := parseServerFlags(t, "-config="+os.DevNull)
	new(reloader).reload(c, []string{"-config=" + os.DevNull}, settings.NewLogger(&log, settings.LogJSON, slog.LevelInfo))
	if !strings.Contains(log.String(), "is not a regular file and can be read only once") {
		t.Errorf("logged %s", &log)
	}
}

// TestReload_StepsApplyTogether has one step that reads a file, which no setting names, and
// one step that can fail.
func TestReload_StepsApplyTogether(t *testing.T) {
	var log programtest.Output
	logger := settings.NewLogger(&log, settings.LogJSON, slog.LevelInfo)
	file := filepath.Join(t.TempDir(), "part")
	replaceFile(t, file, "one")
	c := parseServerFlags(t, "-drain=1s")
	var r reloader
	var applied string
	var stepErr error
	r.add(func(next *config) (apply func(), err error) {
		text, err := os.ReadFile(file)
		return func() { applied = string(text) }, err
	})
	r.add(func(next *config) (apply func(), err error) { return nil, stepErr })
	apply, err := r.prepare(c)
	if err != nil {
		t.Fatal(err)
	}
	if applied != "" {
		t.Error("prepare has applied a step")
	}
	apply()

	replaceFile(t, file, "two")
	stepErr = errors.New("no such key")
	r.reload(c, []string{"-drain=2s"}, logger)
	if applied != "one" || c.drain.timeout != time.Second || !strings.Contains(log.String(), `"error":"no such key"`) {
		t.Errorf("a failed reload left %q and %v: %s", applied, c.drain.timeout, &log)
	}
	stepErr = nil
	r.reload(c, []string{"-drain=2s"}, logger)
	if applied != "two" || c.drain.timeout != 2*time.Second {
		t.Errorf("a reload left %q and %v: %s", applied, c.drain.timeout, &log)
	}
	replaceFile(t, file, "three")
	r.reload(c, []string{"-drain=2s"}, logger)
	if applied != "three" {
		t.Error("a reload without a changed setting does not read files")
	}
}

// TestReload_SettingsAreDocumented checks that all documents name the same reloadable
// settings.
func TestReload_SettingsAreDocumented(t *testing.T) {
	usage, template := programtest.Run(Run, "-h").Stdout, programtest.Run(Run, "-print-config").Stdout
	var manual strings.Builder
	manPage := ManPage()
	manPage.Write(&manual, "")
	reference, err := os.ReadFile("../../../docs/REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\nReloadable are:\n")
	table, _, _ := strings.Cut(rest, "\n- ")
	for _, st := range newConfig().settings.List() {
		if documented := strings.Contains(table, "`"+st.Name+"`"); documented != st.Is(settings.Reloadable) {
			t.Errorf("OPERATIONS.md says of %s that it is reloadable: %t", st.Name, documented)
		}
		if !st.Is(settings.Reloadable) {
			continue
		}
		_, rest, _ := strings.Cut(usage, "\n  -"+st.Name+"=")
		entry, _, _ := strings.Cut(rest, "\n  -")
		if !strings.Contains(entry, "reloadable)") {
			t.Errorf("the usage does not say that -%s is reloadable", st.Name)
		}
		_, rest, _ = strings.Cut(manual.String(), `\fB\-`+strings.ReplaceAll(st.Name, "-", `\-`)+`\fR=`)
		entry, _, _ = strings.Cut(rest, "\n.TP")
		if !strings.Contains(entry, "reloadable)") {
			t.Errorf("the manual page does not say that -%s is reloadable", st.Name)
		}
		if !strings.Contains(template, "# Reloadable.\n#"+st.Name+" =") {
			t.Errorf("-print-config does not say that %s is reloadable", st.Name)
		}
		_, rest, _ = strings.Cut(string(reference), "\n| `-"+st.Name+"` |")
		if !strings.Contains(programtest.FirstLine(rest), "reloadable") {
			t.Errorf("docs/REFERENCE.md does not say that -%s is reloadable", st.Name)
		}
	}
}
