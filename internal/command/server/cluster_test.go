package server

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// parseClusterFlags reads the settings of the cluster. It returns what is printed about invalid
// ones.
func parseClusterFlags(args ...string) (f *clusterFlags, invalid string) {
	f = new(clusterFlags)
	s := settings.New("start_server", "HUB", "")
	f.addFlags(s)
	s.AddCommonFlags()
	var stdout, stderr programtest.Output
	p := command.Process{Args: args, Stdout: &stdout, Stderr: &stderr}
	if _, done := p.Parse(s); done {
		return f, stderr.String()
	}
	return f, ""
}

func writeTestFile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestClusterFlags_Invalid(t *testing.T) {
	for args, want := range map[string]string{
		"-cluster=localhost:4222":       "-cluster=(hidden): allowed are URLs of NATS servers",
		"-cluster=nats://a,nats://b:x":  "-cluster=(hidden): entry 2 is invalid: allowed are URLs of NATS servers",
		"-cluster=nats://a:secret@b:x,": "-cluster=(hidden): entry 1 is invalid: allowed are URLs of NATS servers",
		"-cluster-name=a.b":             "-cluster-name=a.b: allowed are up to 64 letters, digits, - and _",
		"-cluster-name=":                "allowed are up to 64 letters",
		"-cluster-replicas=6":           "-cluster-replicas=6: allowed are whole numbers from 0 to 5",
		"-cluster=http://user:secret@a": "allowed are URLs of NATS servers",
	} {
		if _, got := parseClusterFlags(args); !strings.Contains(got, want) || strings.Contains(got, "secret") {
			t.Errorf("%s: %q", args, got)
		}
	}
}

func TestClusterFlags_Validate(t *testing.T) {
	for args, want := range map[string]string{
		"":                  "",
		"-cluster=nats://a": "",
		"-cluster-name=b":   "",
		"-cluster=nats://a -cluster-nkey=x -cluster-credentials=y": "-cluster-credentials and -cluster-nkey exclude each other",
		"-cluster=nats://a -cluster-tls-cert=x":                    "-cluster-tls-cert and -cluster-tls-key belong together",
		"-cluster=nats://a -cluster-tls-key=x":                     "-cluster-tls-cert and -cluster-tls-key belong together",
	} {
		f, invalid := parseClusterFlags(strings.Fields(args)...)
		if err := f.validate(); invalid != "" || (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v %s", args, err, invalid)
		}
	}
}

func TestClusterFlags_Config(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	cert, key := authority.IssueLocal().WriteFiles(t)
	keyFile := writeTestFile(t, "\ufeff  0123456789abcdef\r\n")
	f, invalid := parseClusterFlags("-cluster=nats://a:1, tls://u:p@b", "-cluster-name=c", "-cluster-replicas=2", "-cluster-key-file="+keyFile,
		"-cluster-tls-ca="+authority.WriteFile(), "-cluster-tls-cert="+cert, "-cluster-tls-key="+key)
	if invalid != "" {
		t.Fatal(invalid)
	}
	got, err := f.config()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.URLs, []string{"nats://a:1", "tls://u:p@b"}) || got.Name != "c" || got.Replicas != 2 || !bytes.Equal(got.Key, []byte("0123456789abcdef")) {
		t.Errorf("%+v", got)
	}
	if got.TLS == nil || !got.TLS.RootCAs.Equal(authority.Pool()) {
		t.Fatal("the authorities are missing")
	}
	if pair, err := got.TLS.GetClientCertificate(new(tls.CertificateRequestInfo)); err != nil || len(pair.Certificate) == 0 {
		t.Errorf("client certificate: %v", err)
	}
}

func TestClusterFlags_ConfigWithoutTLS(t *testing.T) {
	f, _ := parseClusterFlags("-cluster=nats://a")
	if got, err := f.config(); err != nil || got.TLS != nil || got.Key != nil || got.Name != "hub" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestClusterFlags_ConfigOfInvalidFiles(t *testing.T) {
	for name, want := range map[string]string{
		"-cluster-key-file":    "the minimum is 16",
		"-cluster-credentials": "credentials file",
		"-cluster-nkey":        "NKey file",
		"-cluster-tls-ca":      "-cluster-tls-ca: ",
	} {
		f, _ := parseClusterFlags("-cluster=nats://a", name+"="+writeTestFile(t, "short"))
		if _, err := f.config(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClusterFlags_WarnUnused(t *testing.T) {
	for args, want := range map[string]string{
		"-cluster-nkey=x":                   "-cluster-nkey=x has no effect without -cluster",
		"-cluster-nkey=x -cluster=nats://a": "",
		"-cluster-name=x":                   "",
	} {
		f, _ := parseClusterFlags(strings.Fields(args)...)
		f.warnUnused()
		var stderr programtest.Output
		f.settings.Warnings.PrintTo(&stderr, "x")
		if got := stderr.String(); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q", args, got)
		}
	}
}
