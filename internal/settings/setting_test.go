package settings

import "testing"

func TestSetting_UsageSuffix(t *testing.T) {
	s := newSample().settings
	for name, want := range map[string]string{
		"port": " (0 to 65535)", "addr": "", "stat": " (reloadable)", "stall": " (1ms to 24h; reloadable)",
	} {
		if got := s.Lookup(name).UsageSuffix(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestSetting_DisplayValue(t *testing.T) {
	var plain, hidden string
	s := New("sample", "SAMPLE", "")
	Add(s, &plain, "plain", "", AnyText(), "")
	Add(s, &hidden, "hidden", "", AnyText(), "", Secret)
	for _, tt := range []struct{ value, plain, hidden string }{{"", `""`, "(not set)"}, {"a b", "a b", "(set)"}, {"a\n", `"a\n"`, "(set)"}} {
		plain, hidden = tt.value, tt.value
		if got := s.Lookup("plain").DisplayValue(); got != tt.plain {
			t.Errorf("%q is shown as %s, want %s", tt.value, got, tt.plain)
		}
		if got := s.Lookup("hidden").DisplayValue(); got != tt.hidden {
			t.Errorf("the secret %q is shown as %s, want %s", tt.value, got, tt.hidden)
		}
	}
}

func TestSetting_Is(t *testing.T) {
	st := newSample().settings.Lookup("version")
	if !st.Is(CommandLineOnly) || !st.Is(NotInFile|Reloadable) || st.Is(Reloadable) || st.Is(0) {
		t.Errorf("attributes of -version: %b", st.attrs)
	}
}
