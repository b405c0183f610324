package settings

import (
	"slices"
	"testing"
)

// TestCheckEnv sets one variable each. start_server has a test with all of its settings.
func TestCheckEnv(t *testing.T) {
	const typo = "SAMPLE_PROT is not a setting and has no effect, did you mean SAMPLE_PORT?"
	for _, tt := range []struct {
		name, value string
		args        []string
		want        []string
	}{
		{name: "SAMPLE_PROT", value: "1", want: []string{typo}},
		{name: "SAMPLE_PROT", value: ""},
		{name: "SAMPLE_SERVICE_HOST", value: "10.0.0.1"},
		{name: "SAMPLER_PROT", value: "1"},
		{name: "SAMPLE_CHECK", value: "true", want: []string{"SAMPLE_CHECK has no effect: use the flag -check"}},
		{name: "SAMPLE_VERSION", value: "3.1"},
		{name: "SAMPLE_PORT", value: "x", args: []string{"-port=1"},
			want: []string{"SAMPLE_PORT=x is invalid, but overridden by -port: allowed are whole numbers from 0 to 65535"}},
		{name: "SAMPLE_PORT", value: "1", args: []string{"-port=2"}},
	} {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			if got := parseSample(t, tt.args...).settings.Warnings.All(); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
