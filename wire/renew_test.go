package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// TestParseRenew_Malformed parses payloads that are no RENEW, and the longest that is one.
func TestParseRenew_Malformed(t *testing.T) {
	longest := `{"token":"` + strings.Repeat("x", wire.MaxHelloLen-len(`{"token":""}`)) + `"}`
	if r, err := wire.ParseRenew([]byte(longest)); err != nil || len(longest) != wire.MaxHelloLen || wire.AppendRenew(nil, &r) == nil {
		t.Errorf("RENEW of %d bytes: %v", len(longest), err)
	}
	for _, payload := range []string{"", "null", "{}", "[]", `"t"`, `{"token":""}`, `{"token":7}`, `{"token":"t"}x`, longest + " "} {
		if _, err := wire.ParseRenew([]byte(payload)); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%.40q: %v, want %v", payload, err, wire.ErrMalformed)
		}
	}
	if r, err := wire.ParseRenew([]byte(`{"new":1,"token":"t"}`)); err != nil || r.Token != "t" {
		t.Errorf("with an unknown field: %+v, %v", r, err)
	}
}

// TestParseRenewed_Malformed parses payloads that are no RENEWED, and one with an unknown field.
func TestParseRenewed_Malformed(t *testing.T) {
	for _, payload := range []string{"", "[]", `{"max_body":-1}`, `{"max_body":1,"expires_ms":-1}`, `{"max_body":"1"}`, `{"max_body":1.5}`} {
		if _, err := wire.ParseRenewed([]byte(payload)); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%q: %v, want %v", payload, err, wire.ErrMalformed)
		}
	}
	if r, err := wire.ParseRenewed([]byte(`{"max_body":3,"new":1}`)); err != nil || r != (wire.Renewed{MaxBody: 3}) {
		t.Errorf("with an unknown field: %+v, %v", r, err)
	}
}
