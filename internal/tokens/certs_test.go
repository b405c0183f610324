package tokens_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/tokens"
)

// loadCerts writes text to a file and loads it.
func loadCerts(t *testing.T, text string) (*tokens.Certs, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "certs.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return tokens.LoadCerts(file)
}

// verifiedChains returns the verified chains of a certificate with these names.
func verifiedChains(t *testing.T, commonName string, names ...string) [][]*x509.Certificate {
	t.Helper()
	authority := testcerts.NewAuthority(t)
	leaf := authority.IssueAs(time.Now().Add(time.Minute), commonName, names...).TLS(t).Leaf
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: authority.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Fatal(err)
	}
	return chains
}

func TestCerts_Find(t *testing.T) {
	c, err := loadCerts(t, `[
		{"cert": "alice", "hub_id": 5, "hub_send": [2, "5-10"], "hub_list": false, "hub_watch": false,
		 "hub_max_body": 100, "hub_messages_per_second": 0.5, "hub_bytes_per_second": 1e6},
		{"cert": "spiffe://example/bob", "hub_id": "9223372036854775807", "hub_send": []},
		{"cert": "carol.example", "hub_list": true, "hub_id": null},
		{"cert": "dave@example"}
	]`)
	if err != nil {
		t.Fatal(err)
	}
	alice := tokens.Claims{Subject: "alice", ID: 5, To: []tokens.Range{{2, 2}, {5, 10}}, NoList: true, NoWatch: true, MaxBody: 100, MessageRate: 0.5, ByteRate: 1e6}
	bob := tokens.Claims{Subject: "spiffe://example/bob", ID: tokens.MaxID, To: []tokens.Range{}}
	for _, test := range []struct {
		common string
		names  []string
		want   tokens.Claims
	}{
		{"alice", nil, alice},
		{"alice", []string{"192.0.2.1"}, alice}, // IP addresses do not count as names
		{"mallory", []string{"alice"}, alice},
		{"alice", []string{"spiffe://example/bob"}, bob}, // other names replace the common name
		{"x", []string{"carol.example", "x.example", "spiffe://example/bob"}, bob},
		{"x", []string{"carol.example"}, tokens.Claims{Subject: "carol.example"}},
		{"x", []string{"dave@example", "y.example"}, tokens.Claims{Subject: "dave@example"}},
	} {
		chains := verifiedChains(t, test.common, test.names...)
		got, err := c.Find(chains)
		if err != nil || !got.Expires.Equal(chains[0][0].NotAfter) {
			t.Errorf("%s %v: %+v, %v", test.common, test.names, got, err)
			continue
		}
		if got.Expires = (time.Time{}); !reflect.DeepEqual(*got, test.want) {
			t.Errorf("%s %v: %+v, want %+v", test.common, test.names, got, test.want)
		}
	}
	for _, test := range []struct {
		chains [][]*x509.Certificate
		want   string
	}{
		{verifiedChains(t, "mallory"), `"mallory"`},
		{verifiedChains(t, "alice", "mallory.example"), `"mallory.example"`},
		{verifiedChains(t, "Alice"), `"Alice"`},
		{verifiedChains(t, "", "192.0.2.1"), "it has no name"},
		{nil, "requires a client certificate"},
	} {
		if got, err := c.Find(test.chains); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v, %v, want %q", got, err, test.want)
		}
	}
}

// TestClaimsFromCert_ExpiresWithChain checks that the expiry is that of the first certificate
// of a chain to expire, and the latest one of several chains.
func TestClaimsFromCert_ExpiresWithChain(t *testing.T) {
	certAt := func(minutes int) *x509.Certificate {
		c := verifiedChains(t, "alice")[0][0]
		c.NotAfter = now.Add(time.Duration(minutes) * time.Minute)
		return c
	}
	for want, chains := range map[int][][]*x509.Certificate{
		5: {{certAt(5), certAt(6), certAt(7)}},
		4: {{certAt(5), certAt(4), certAt(7)}, {certAt(5), certAt(3)}},
		3: {{certAt(5), certAt(2)}, {certAt(5), certAt(3)}},
	} {
		c, err := tokens.ClaimsFromCert(chains)
		if err != nil || c.Subject != "alice" || !c.Expires.Equal(now.Add(time.Duration(want)*time.Minute)) {
			t.Errorf("%+v, %v, want %d minutes", c, err, want)
		}
	}
}

func TestLoadCerts_Invalid(t *testing.T) {
	for text, want := range map[string]string{
		``:                                     "not a JSON list",
		`{"cert": "a"}`:                        "not a JSON list",
		`[]`:                                   "empty list",
		`[{"cert": "a"}] x`:                    "data after the list",
		`[{"cert": "a"}`:                       "after entry 1: unexpected end of file",
		`[{"cert": "a"},]`:                     "entry 2 (cert \"\"): not an object such as",
		`["a"]`:                                `entry 1 (cert ""): not an object such as {"cert"`,
		`[{"cert": "a"}, {}]`:                  `entry 2 (cert ""): "cert" is missing`,
		`[{"cert": "a"}, {"cert": "a"}]`:       `entry 2 (cert "a"): duplicate of entry 1`,
		`[{"cert": ""}]`:                       `entry 1 (cert ""): cert "": allowed are names`,
		`[{"cert": 7}]`:                        `cert 7: allowed are names`,
		`[{"cert": "a", "hub_list": "maybe"}]`: `entry 1 (cert "a"): hub_list "maybe": allowed are true and false`,
		`[{"cert": "a", "hub_lsit": false}]`:   `entry 1 (cert "a"): unknown key "hub_lsit": allowed are cert, hub_id, hub_send, hub_list`,
		`[{"cert": "a", "HUB_ID": 1}]`:         `unknown key "HUB_ID"`,
		`[{"cert": "a", "sub": "b"}]`:          `unknown key "sub"`,
		`[{"cert": "a", "hub_id": 0}]`:         "hub_id 0: allowed are ids from 1 to 9223372036854775807",
		`[{"cert": "a", "hub_id": 1, "hub_id": 2}]`:        "duplicate hub_id",
		`[{"cert": "a", "hub_id": "9223372036854775808"}]`: `hub_id "9223372036854775808": allowed are`,
		`[{"cert": "a", "hub_send": "all"}]`:               `hub_send "all": allowed are lists of ids and ranges, such as ["2", "5-10"]`,
		`[{"cert": "a", "hub_send": [1, "9-2"]}]`:          `hub_send [1,"9-2"]: allowed`,
		`[{"cert": "a", "hub_max_body": -1}]`:              "hub_max_body -1: allowed are bytes from 0",
		`[{"cert": "a", "hub_max_body": "1KiB"}]`:          `hub_max_body "1KiB": allowed are bytes from 0`,
		`[{"cert": "a", "hub_messages_per_second": -0.5}]`: "hub_messages_per_second -0.5: allowed are numbers from 0",
		`[{"cert": "a", "hub_bytes_per_second": 1e999}]`:   "hub_bytes_per_second 1e999: allowed are numbers from 0",
		`[{"cert": "a", "hub_id": }]`:                      `"hub_id": invalid character`,
		`[{"cert": "a", "hub_id"`:                          `entry 1 (cert "a"): `,
	} {
		c, err := loadCerts(t, text)
		if c != nil || err == nil || !strings.Contains(err.Error(), "certs.json: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := tokens.LoadCerts("nothing"); err == nil || strings.Count(err.Error(), "nothing") != 1 {
		t.Errorf("no file: %v", err)
	}
}
