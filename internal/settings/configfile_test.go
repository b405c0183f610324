package settings

import (
	"strings"
	"testing"
	"time"
)

func TestConfigFile_LineSyntax(t *testing.T) {
	const file = `
# where to listen
port 1234            # a comment behind a value
-addr=127.0.0.1
max-memory = 64MiB
	stall	250ms
stat
`
	t.Setenv("SAMPLE_STAT", "") // an empty variable counts as not set
	c := parseSample(t, "-config", writeConfigFile(t, file))
	if c.port != 1234 || c.addr != "127.0.0.1" || c.maxMemory != 64<<20 || c.stall != 250*time.Millisecond || !c.stat {
		t.Errorf("got %+v", c)
	}
}

// TestConfigFile_Invalid checks the errors of lines that no setting accepts. start_server has a
// test with errors of values.
func TestConfigFile_Invalid(t *testing.T) {
	for text, want := range map[string]string{
		"# x\nprot 1":                          `FILE:2: "prot" is not a valid setting of a config file, did you mean port?`,
		"config x":                             `FILE:1: "config" is not a valid setting of a config file`,
		"port":                                 "FILE:1: port has no value: allowed are whole numbers from 0 to 65535",
		"port 1\n\nport=1":                     "FILE:3: port is already set in line 1",
		`addr = "::1"`:                         `FILE:1: addr "::1": remove the quotes around the value`,
		"port x":                               "FILE:1: port x: allowed are whole numbers from 0 to 65535",
		"\nport " + strings.Repeat("1", 1<<17): "FILE:2: longer than 65536 bytes, is this a config file?",
	} {
		path := writeConfigFile(t, text)
		if err := newSample().settings.Read([]string{"-config=" + path}); err == nil || err.Error() != strings.ReplaceAll(want, "FILE", path) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
}

func TestParseLine(t *testing.T) {
	s := newSample().settings
	for line, want := range map[string]string{
		"port 1": "port=1", "port=1": "port=1", " --port = 1 # here": "port=1", "stat": "stat=true", "addr a#b": "addr=a#b", "addr =": "addr=",
		"": "", "# port 1": "", "  ": "",
	} {
		st, value, err := parseLine(s, line)
		got := ""
		if st != nil {
			got = st.Name + "=" + value
		}
		if got != want || err != nil {
			t.Errorf("%q: %s, %v, want %s", line, got, err, want)
		}
	}
}
