package settings

import (
	"errors"
	"flag"
	"testing"
	"time"
)

func TestSettings_Precedence(t *testing.T) {
	tests := []struct {
		name            string
		flag, env, file string
		want            time.Duration
	}{
		{name: "default", want: 10 * time.Second},
		{name: "file", file: "3s", want: 3 * time.Second},
		{name: "environment", env: "2s", want: 2 * time.Second},
		{name: "flag", flag: "1s", want: time.Second},
		{name: "environment over file", env: "2s", file: "3s", want: 2 * time.Second},
		{name: "flag over file", flag: "1s", file: "3s", want: time.Second},
		{name: "flag over environment", flag: "1s", env: "2s", want: time.Second},
		{name: "flag over all", flag: "1s", env: "2s", file: "3s", want: time.Second},
		{name: "flag that repeats the default over all", flag: "10s", env: "2s", file: "3s", want: 10 * time.Second},
		{name: "flag over a wrong environment", flag: "1s", env: "soon", want: time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var args []string
			if tt.flag != "" {
				args = append(args, "-stall="+tt.flag)
			}
			if tt.env != "" {
				t.Setenv("SAMPLE_STALL", tt.env)
			}
			if tt.file != "" {
				args = append(args, "-config", writeConfigFile(t, "stall "+tt.file))
			}
			if got := parseSample(t, args...).stall; got != tt.want {
				t.Errorf("stall is %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSettings_ConfigFileFromEnvironment(t *testing.T) {
	t.Setenv("SAMPLE_CONFIG", writeConfigFile(t, "port=1234"))
	if got := parseSample(t).port; got != 1234 {
		t.Errorf("port %d, want 1234", got)
	}
}

func TestSettings_FlagSyntax(t *testing.T) {
	for _, args := range [][]string{{"-port=1234"}, {"-port", "1234"}, {"--port=1234"}, {"--port", "1234"}} {
		if got := parseSample(t, args...).port; got != 1234 {
			t.Errorf("%q: port %d, want 1234", args, got)
		}
	}
	for arg, want := range map[string]bool{"-stat": true, "-stat=true": true, "-stat=false": false, "-stat=0": false} {
		if got := parseSample(t, arg).stat; got != want {
			t.Errorf("%s: %t, want %t", arg, got, want)
		}
	}
}

// TestSettings_ReadOperands checks programs with an operand after the flags, and without.
func TestSettings_ReadOperands(t *testing.T) {
	for _, tt := range []struct {
		usage string
		args  []string
		want  string // error
	}{
		{"[text]", []string{"-port=1", "hello"}, ""},
		{"[text]", []string{"hello", "-port=1"}, `"-port=1" follows "hello": flags come first`},
		{"[text]", []string{"hello", "there"}, `"there" is an extra argument: put a text with spaces in quotes`},
		{"", []string{"-port=1", "hello"}, `"hello" is not a flag: write flags as -name=value`},
		{"", []string{"-stat", "false"}, `"false" after -stat: boolean values need an equals sign, -stat=false`},
	} {
		s := newSample().settings
		s.OperandUsage = tt.usage
		err := s.Read(tt.args)
		if (err == nil) != (tt.want == "") || err != nil && err.Error() != tt.want {
			t.Errorf("%q: %v, want %s", tt.args, err, tt.want)
		}
		if err == nil && (len(s.Operands) != 1 || s.Operands[0] != "hello") {
			t.Errorf("%q: operands %q", tt.args, s.Operands)
		}
	}
}

// TestSettings_ReadStopsAtCommandLine checks that neither the environment nor the file is read
// if the command line requests the version or the default configuration.
func TestSettings_ReadStopsAtCommandLine(t *testing.T) {
	t.Setenv("SAMPLE_PORT", "x")
	for _, arg := range []string{"-version", "-print-config"} {
		if err := newSample().settings.Read([]string{arg, "-config=/no/such/file"}); err != nil {
			t.Errorf("%s: %v", arg, err)
		}
	}
	if err := newSample().settings.Read([]string{"-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}
