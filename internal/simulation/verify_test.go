package simulation

import (
	"encoding/json"
	"flag"
	"strings"
	"testing"
)

func TestVerifyMode_IsFlagValue(t *testing.T) {
	var v VerifyMode
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(&strings.Builder{})
	flags.Var(&v, "verify", "")
	for _, name := range []string{"full", "header", "off"} {
		if err := flags.Parse([]string{"-verify=" + name}); err != nil || v.String() != name {
			t.Errorf("%s: got %v, %v", name, v, err)
		}
	}
	if err := flags.Parse([]string{"-verify=some"}); err == nil || !strings.Contains(err.Error(), "full, header and off") {
		t.Errorf("some: got %v", err)
	}
}

func TestVerifyMode_MarshalsAsName(t *testing.T) {
	text, err := json.Marshal(VerifyHeader)
	if err != nil || string(text) != `"header"` {
		t.Errorf("got %s, %v", text, err)
	}
	var v VerifyMode
	if err := json.Unmarshal([]byte(`"off"`), &v); err != nil || v != VerifyOff {
		t.Errorf("got %v, %v", v, err)
	}
	if _, err := json.Marshal(VerifyMode(9)); err == nil {
		t.Error("marshalled an invalid mode")
	}
}
