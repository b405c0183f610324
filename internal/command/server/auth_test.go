package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/certs"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/hubctl"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/command/simulation"
	"github.com/sechlol/go-message-hub/wire"
)

// TestAuth_TokensEndToEnd makes keys and tokens with hubctl and uses them with all programs.
func TestAuth_TokensEndToEnd(t *testing.T) {
	key := programtest.MakeKeyFile(t, hubctl.Run)
	s, port, addr := startServerWithAdmin(t, "-admin=127.0.0.1:0", "-auth-keys="+key+".pub", "-auth-issuer=us")
	alice := programtest.MakeTokenFile(t, hubctl.Run, key, "-sub=alice", "-id=5", "-issuer=us")
	_, id := programtest.StartListen(t, hubctl.Run, port, "-token-file="+alice)
	if id != "5" {
		t.Errorf("alice is %s", id)
	}
	if _, text := httpGet(t, addr, "/api/clients/5", ""); !strings.Contains(text, `"subject":"alice"`) {
		t.Errorf("alice is shown as %s", text)
	}
	bob := programtest.MakeTokenFile(t, hubctl.Run, key, "-sub=bob", "-send=5-6", "-issuer=us")
	got := programtest.RunWithStdin(hubctl.Run, "hello", programtest.HubctlArgs(port, "send", "-to=5,6,7", "-token-file="+bob)...)
	programtest.CheckResult(t, got, hubctl.ExitPartial, "5  received\n6  unknown\n7  refused\n", "1 of 3 receivers")
	text, err := os.ReadFile(bob)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HUBCTL_TOKEN", strings.TrimSpace(string(text)))
	if got := programtest.Run(hubctl.Run, programtest.HubctlArgs(port, "list")...); got.Code != command.ExitOK {
		t.Errorf("a token from the environment: %+v", got)
	}
	os.Unsetenv("HUBCTL_TOKEN")
	load := programtest.MakeTokenFile(t, hubctl.Run, key, "-sub=load", "-issuer=us")
	if got := programtest.Run(simulation.Run, "-addr=127.0.0.1", "-port="+port, "-token-file="+load, "-protocol=2", "-ncli=3", "-nmex=5", "-stat=false"); got.Code != command.ExitOK {
		t.Errorf("the simulation: %+v", got)
	}
	for want, args := range map[string][]string{
		"a token is required": nil,
		"wrong issuer":        {"-token-file=" + programtest.MakeTokenFile(t, hubctl.Run, key, "-sub=bob", "-issuer=others")},
		"signature not valid": {"-token-file=" + programtest.MakeTokenFile(t, hubctl.Run, programtest.MakeKeyFile(t, hubctl.Run), "-sub=bob", "-issuer=us")},
		"no such file":        {"-token-file=nothing"},
		"exclude each other":  {"-token-file=" + bob, "-token=x"},
	} {
		if got := programtest.Run(hubctl.Run, programtest.HubctlArgs(port, "list", args...)...); got.Code == command.ExitOK || !strings.Contains(got.Stderr, want) {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
	if got := programtest.Run(simulation.Run, "-addr=127.0.0.1", "-port="+port, "-token-file="+load, "-ncli=3"); got.Code != command.ExitUsage || !strings.Contains(got.Stderr, "-protocol=2") {
		t.Errorf("the simulation in version 1: %+v", got)
	}
	got = programtest.Run(simulation.Run, "-addr=127.0.0.1", "-port="+port, "-ncli=1", "-stat=false")
	if got.Code != command.ExitFailure || !strings.Contains(got.Stderr, "it may require a token, which version 1 cannot send") ||
		!strings.Contains(got.Stderr, "-protocol=2 and -token-file are for tokens") || strings.Contains(got.Stderr, "-embed") {
		t.Errorf("the simulation in version 1 without a token: %+v", got)
	}
	if text := s.Stderr.String(); strings.Contains(text, "eyJ") {
		t.Errorf("a token is in the log: %s", text)
	}
}

// TestAuth_ExpiredTokenDisconnects checks that a listener whose token expires resumes its
// session with a newer token.
func TestAuth_ExpiredTokenDisconnects(t *testing.T) {
	key := programtest.MakeKeyFile(t, hubctl.Run)
	_, port := startServer(t, "-auth-keys="+key+".pub", "-auth-leeway=0s")
	file := programtest.MakeTokenFile(t, hubctl.Run, key, "-sub=alice", "-id=5", "-good-for=2s") // resolution: 1 s
	l, _ := programtest.StartListen(t, hubctl.Run, port, "-token-file="+file)
	newer, err := os.ReadFile(programtest.MakeTokenFile(t, hubctl.Run, key, "-sub=alice", "-id=5"))
	if err != nil {
		t.Fatal(err)
	}
	l.WaitForLine(&l.Stderr, "disconnected")
	programtest.WriteFile(t, file, newer) // the listener can send the old token once more before this
	if line := l.WaitForLine(&l.Stderr, "resumed"); !strings.Contains(line, "id=5") {
		t.Errorf("resumed: %s", line)
	}
	other := programtest.MakeTokenFile(t, hubctl.Run, key, "-sub=bob")
	got := programtest.RunWithStdin(hubctl.Run, "hello", programtest.HubctlArgs(port, "send", "-to=5", "-token-file="+other)...)
	programtest.CheckResult(t, got, command.ExitOK, "5  received\n", "")
}

// TestAuth_ReloadedKeysApply checks that a reload applies new keys, and that invalid keys
// change nothing.
func TestAuth_ReloadedKeysApply(t *testing.T) {
	first, second := programtest.MakeKeyFile(t, hubctl.Run), programtest.MakeKeyFile(t, hubctl.Run)
	keys := first + ".pub"
	s, port := startServer(t, "-auth-keys="+keys)
	a, b := programtest.MakeTokenFile(t, hubctl.Run, first, "-sub=a"), programtest.MakeTokenFile(t, hubctl.Run, second, "-sub=b")
	isAccepted := func(file string) bool {
		return programtest.Run(hubctl.Run, programtest.HubctlArgs(port, "list", "-token-file="+file)...).Code == command.ExitOK
	}
	if !isAccepted(a) || isAccepted(b) {
		t.Error("with the first keys")
	}
	programtest.WriteFile(t, keys, []byte("nonsense"))
	s.Reload("the old settings remain in effect")
	if !isAccepted(a) {
		t.Error("with an invalid key file")
	}
	text, err := os.ReadFile(second + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	programtest.WriteFile(t, keys, text)
	s.Reload("authentication settings reloaded")
	if isAccepted(a) || !isAccepted(b) {
		t.Error("with other keys")
	}
}

// certFlags returns the flags with which client programs reach a hub over TLS and authenticate
// with a certificate.
func certFlags(t *testing.T, ca string, pair testcerts.Pair) []string {
	t.Helper()
	cert, key := pair.WriteFiles(t)
	return []string{"-addr=hubs://127.0.0.1", "-ca=" + ca, "-cert=" + cert, "-key=" + key}
}

// writeCertsFile writes a file for -auth-certs and returns its path.
func writeCertsFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "certs.json")
	programtest.WriteFile(t, file, []byte(text))
	return file
}

const certsJSON = `[{"cert": "alice.example", "hub_id": "5"}, {"cert": "urn:bob", "hub_id": 6, "hub_send": ["5-6"]}]`

// TestAuth_CertificatesEndToEnd connects with certificates whose permissions are in
// -auth-certs.
func TestAuth_CertificatesEndToEnd(t *testing.T) {
	authority, soon := testcerts.NewAuthority(t), time.Now().Add(time.Hour)
	file := writeCertsFile(t, certsJSON)
	s, port, ca := startTLSServer(t, "-tls-client-ca="+authority.WriteFile(), "-auth-certs="+file)
	if _, id := programtest.StartListen(t, hubctl.Run, port, certFlags(t, ca, authority.Issue(soon, "alice.example"))...); id != "5" {
		t.Errorf("alice is %s", id)
	}
	bob := authority.Issue(soon, "urn:bob")
	got := programtest.RunWithStdin(hubctl.Run, "hello", programtest.HubctlArgs(port, "send", append(certFlags(t, ca, bob), "-to=5,6,7")...)...)
	programtest.CheckResult(t, got, hubctl.ExitPartial, "5  received\n6  received\n7  refused\n", "2 of 3 receivers")

	trust, _, err := certs.ReadPool(ca)
	if err != nil {
		t.Fatal(err)
	}
	classic, err := client.Dial(t.Context(), "hubs://127.0.0.1:"+port, &client.Options{
		Version: 1, TLS: &tls.Config{RootCAs: trust, Certificates: []tls.Certificate{bob.TLS(t)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer classic.Close()
	if classic.ID() != 6 {
		t.Errorf("bob is %d in version 1", classic.ID())
	}

	mallory := programtest.HubctlArgs(port, "list", certFlags(t, ca, authority.Issue(soon, "mallory.example"))...)
	if got := programtest.Run(hubctl.Run, mallory...); got.Code == command.ExitOK || !strings.Contains(got.Stderr, `"mallory.example" is not in the list of the hub`) {
		t.Errorf("certificate without an entry: %+v", got)
	}
	programtest.WriteFile(t, file, []byte(`[{"cert": "mallory.example", "hub_list": "perhaps"}]`))
	if line := s.Reload("the old settings remain in effect"); !strings.Contains(line, `-auth-certs: `+file+`: entry 1 (cert \"mallory.example\"): hub_list \"perhaps\": allowed are true and false`) {
		t.Errorf("invalid file: %s", line)
	}
	if got := programtest.Run(hubctl.Run, mallory...); got.Code == command.ExitOK {
		t.Error("an invalid file admits mallory")
	}
	programtest.WriteFile(t, file, []byte(`[{"cert": "mallory.example"}]`))
	s.Reload(reloaded)
	if got := programtest.Run(hubctl.Run, mallory...); got.Code != command.ExitOK {
		t.Errorf("new entry: %+v", got)
	}
	if got := programtest.Run(hubctl.Run, programtest.HubctlArgs(port, "list", certFlags(t, ca, bob)...)...); got.Code == command.ExitOK {
		t.Error("a removed entry admits bob")
	}
}

// TestAuth_ExpiredCertificateDisconnects checks that a listener whose certificate expires
// resumes its session with a newer certificate.
func TestAuth_ExpiredCertificateDisconnects(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	_, port, ca := startTLSServer(t, "-tls-client-ca="+authority.WriteFile(), "-auth-certs="+writeCertsFile(t, certsJSON))
	cert, key := authority.Issue(time.Now().Add(3*time.Second), "alice.example").WriteFiles(t)
	l, id := programtest.StartListen(t, hubctl.Run, port, "-addr=hubs://127.0.0.1", "-ca="+ca, "-cert="+cert, "-key="+key)
	newer := authority.Issue(time.Now().Add(time.Hour), "alice.example")
	programtest.WriteFile(t, cert, newer.Cert)
	programtest.WriteFile(t, key, newer.Key)
	l.WaitForLine(&l.Stderr, "credentials expired")
	if line := l.WaitForLine(&l.Stderr, "resumed"); id != "5" || !strings.Contains(line, "id=5") {
		t.Errorf("%s resumed: %s", id, line)
	}
}

// TestAuth_AnyVerifiedCertificate checks that without -auth-certs any verified certificate
// admits a client until the certificate expires, in both versions.
func TestAuth_AnyVerifiedCertificate(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	// The session of a client with an expired certificate stays detached for the resume window.
	s, port, ca := startTLSServer(t, "-tls-client-ca="+authority.WriteFile(), "-resume-window=1ms")
	load := append(certFlags(t, ca, authority.IssueAs(time.Now().Add(time.Hour), "load")), "-port="+port, "-ncli=3", "-nmex=5", "-stat=false")
	for _, version := range []string{"1", "2"} {
		if got := programtest.Run(simulation.Run, append(load, "-protocol="+version)...); got.Code != command.ExitOK {
			t.Errorf("the simulation in version %s: %+v", version, got)
		}
	}
	for _, version := range []int{1, 2} {
		trust, _, err := certs.ReadPool(ca)
		if err != nil {
			t.Fatal(err)
		}
		short := authority.Issue(time.Now().Add(3*time.Second), "short.example").TLS(t)
		c, err := client.Dial(t.Context(), "hubs://127.0.0.1:"+port, &client.Options{
			Version: version, TLS: &tls.Config{RootCAs: trust, Certificates: []tls.Certificate{short}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		<-c.Done()
		var goAway *client.GoAwayError
		if err := c.Err(); errors.As(err, &goAway) != (version == 2) || version == 2 && goAway.Code != wire.GoAwayExpired || version == 1 && !errors.Is(err, client.ErrHubClosed) {
			t.Errorf("version %d: disconnected with %v", version, err)
		}
		if early := time.Until(short.Leaf.NotAfter); early > 0 {
			t.Errorf("version %d: disconnected %v before the certificate expired", version, early)
		}
		if line := s.WaitForLine(&s.Stderr, fmt.Sprintf(`"client disconnected","client":%d,`, c.ID())); !strings.Contains(line, "permission over") {
			t.Errorf("version %d: logged as %s", version, line)
		}
	}
}

// TestAuth_TokenAndCertificateRequired requires both from each client and checks that a client
// is disconnected when the first of the two expires.
func TestAuth_TokenAndCertificateRequired(t *testing.T) {
	authority, key := testcerts.NewAuthority(t), programtest.MakeKeyFile(t, hubctl.Run)
	_, port, ca := startTLSServer(t, "-tls-client-ca="+authority.WriteFile(), "-auth-keys="+key+".pub", "-auth-leeway=0s")
	token := "-token-file=" + programtest.MakeTokenFile(t, hubctl.Run, key, "-sub=alice", "-id=5")
	flags := certFlags(t, ca, authority.Issue(time.Now().Add(time.Hour), "gate.example"))
	if _, id := programtest.StartListen(t, hubctl.Run, port, append(flags, token)...); id != "5" {
		t.Errorf("alice is %s", id)
	}
	for want, args := range map[string][]string{
		"a token is required":                   flags,
		"the hub requires a client certificate": {flags[0], flags[1], token},
		"signature not valid":                   append([]string{"-token-file=" + programtest.MakeTokenFile(t, hubctl.Run, programtest.MakeKeyFile(t, hubctl.Run), "-sub=alice")}, flags...),
	} {
		if got := programtest.Run(hubctl.Run, programtest.HubctlArgs(port, "list", args...)...); got.Code == command.ExitOK || !strings.Contains(got.Stderr, want) {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
	for _, args := range []func() []string{
		func() []string {
			return append(certFlags(t, ca, authority.Issue(time.Now().Add(3*time.Second), "gate.example")), token)
		},
		func() []string {
			return append(flags, "-token-file="+programtest.MakeTokenFile(t, hubctl.Run, key, "-sub=bob", "-good-for=3s"))
		},
	} {
		l, _ := programtest.StartListen(t, hubctl.Run, port, args()...)
		l.WaitForLine(&l.Stderr, "credentials expired")
	}
}

// TestAuth_RequireCertificateNeedsRestart checks that requiring certificates needs a restart,
// but changing -auth-certs does not.
func TestAuth_RequireCertificateNeedsRestart(t *testing.T) {
	t.Setenv("HUB_TLS_MIN", "1.2")
	authority := testcerts.NewAuthority(t)
	s, _, _ := startTLSServer(t)
	t.Setenv("HUB_TLS_CLIENT_CA", authority.WriteFile())
	s.Reload("enabling or disabling client certificates requires a restart")

	os.Unsetenv("HUB_TLS_CLIENT_CA")
	s, port, ca := startTLSServer(t, "-tls-client-ca="+authority.WriteFile())
	bob := programtest.HubctlArgs(port, "list", certFlags(t, ca, authority.Issue(time.Now().Add(time.Hour), "carol.example"))...)
	if got := programtest.Run(hubctl.Run, bob...); got.Code != command.ExitOK {
		t.Errorf("without a file: %+v", got)
	}
	t.Setenv("HUB_AUTH_CERTS", writeCertsFile(t, certsJSON))
	s.Reload(reloaded)
	if got := programtest.Run(hubctl.Run, bob...); got.Code == command.ExitOK {
		t.Error("with a file that names others")
	}
}

func TestAuthFlags_Invalid(t *testing.T) {
	key := programtest.MakeKeyFile(t, hubctl.Run)
	authority := testcerts.NewAuthority(t)
	cert, certKey := authority.IssueLocal().WriteFiles(t)
	mutual := []string{"-tls-cert=" + cert, "-tls-key=" + certKey, "-tls-client-ca=" + authority.WriteFile()}
	for want, args := range map[string][]string{
		"-auth-keys: open nothing":                  {"-auth-keys=nothing"},
		"no usable key: key 1: it is a PRIVATE KEY": {"-auth-keys=" + key},
		"-auth-audience require -auth-keys":         {"-auth-issuer=us"},
		"cannot send the token":                     {"-auth-keys=" + key + ".pub", "-classic=on"},
		"-auth-certs requires -tls-client-ca":       {"-auth-certs=" + writeCertsFile(t, certsJSON)},
		"both define permissions":                   append([]string{"-auth-keys=" + key + ".pub", "-auth-certs=" + writeCertsFile(t, certsJSON)}, mutual...),
		"-auth-certs: open nothing":                 append([]string{"-auth-certs=nothing"}, mutual...),
		"not a JSON list":                           append([]string{"-auth-certs=" + key}, mutual...),
	} {
		if got := programtest.Run(Run, append(args, "-addr=127.0.0.1", "-port=0")...); got.Code != command.ExitUsage || !strings.Contains(got.Stderr, want) {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
	if got := programtest.Run(hubctl.Run, "token", "-sign-key="+key); got.Code != command.ExitFailure || !strings.Contains(got.Stderr, "exists and was not overwritten") {
		t.Errorf("existing keys were overwritten: %+v", got)
	}
	if got := programtest.Run(hubctl.Run, "token", "-sign-key=nothing", "-sub=x"); got.Code != command.ExitFailure || !strings.Contains(got.Stderr, "run without -sub to make a key pair") {
		t.Errorf("without a key: %+v", got)
	}
	if got := programtest.Run(hubctl.Run, "token", "-sign-key="+key, "-sub=x", "-send=5-2"); got.Code != command.ExitFailure || !strings.Contains(got.Stderr, "-send=5-2") {
		t.Errorf("invalid range: %+v", got)
	}
}

// TestAuth_WarnsOfIgnoredKeys checks the warnings at the start, at a reload and by -check, and
// that the valid keys are used.
func TestAuth_WarnsOfIgnoredKeys(t *testing.T) {
	key := programtest.MakeKeyFile(t, hubctl.Run)
	good, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "keys")
	foreign := func(kind string) string { return "-----BEGIN " + kind + "-----\nMA==\n-----END " + kind + "-----\n" }
	programtest.WriteFile(t, keys, []byte("\ufeff"+foreign("FIRST")+string(good)))
	if got := programtest.Run(Run, "-check", "-auth-keys="+keys); got.Code != command.ExitOK || !strings.Contains(got.Stderr, "-auth-keys="+keys+": ignored: key 1: it is a FIRST") {
		t.Errorf("-check: %+v", got)
	}
	s, port := startServer(t, "-auth-keys="+keys)
	if text := s.Stderr.String(); !strings.Contains(text, "ignored: key 1: it is a FIRST") {
		t.Errorf("at the start: %s", text)
	}
	file := filepath.Join(t.TempDir(), "token")
	token, err := os.ReadFile(programtest.MakeTokenFile(t, hubctl.Run, key, "-sub=alice"))
	if err != nil {
		t.Fatal(err)
	}
	programtest.WriteFile(t, file, append([]byte("\ufeff"), token...))
	if got := programtest.Run(hubctl.Run, programtest.HubctlArgs(port, "list", "-token-file="+file)...); got.Code != command.ExitOK {
		t.Errorf("with the other key, and a byte order mark before the token: %+v", got)
	}
	programtest.WriteFile(t, keys, append(good, foreign("SECOND")...))
	if text := s.Reload("configuration reloaded"); !strings.Contains(text, "ignored: key 2: it is a SECOND") {
		t.Errorf("at a reload: %s", text)
	}
}

// TestAuth_WarnsWhenUnauthenticated checks that the hub warns only if other machines can
// connect without authentication.
func TestAuth_WarnsWhenUnauthenticated(t *testing.T) {
	const warning = "any client that can reach"
	local, _ := startServer(t)
	if strings.Contains(local.Stderr.String(), warning) {
		t.Error("warning on a loopback address")
	}
	open := programtest.Start(t, Run, "-addr=", "-port=0")
	open.WaitForLine(&open.Stderr, warning)
	withTokens := programtest.Start(t, Run, "-addr=", "-port=0", "-auth-keys="+programtest.MakeKeyFile(t, hubctl.Run)+".pub")
	withTokens.WaitForLine(&withTokens.Stderr, "listening")
	got := withTokens.Interrupt()
	if strings.Contains(got.Stderr, warning) {
		t.Error("warning with tokens")
	}
}

// TestServer_ClassicOffRejectsVersion1 checks that -classic=off rejects version 1 clients and
// accepts version 2 clients.
func TestServer_ClassicOffRejectsVersion1(t *testing.T) {
	_, port := startServer(t, "-classic=off")
	if got := programtest.Run(simulation.Run, "-addr=127.0.0.1", "-port="+port, "-ncli=1", "-stat=false", "-timeout="+(5*time.Second).String()); got.Code == command.ExitOK {
		t.Error("version 1 is accepted")
	}
	if got := programtest.Run(simulation.Run, "-addr=127.0.0.1", "-port="+port, "-ncli=1", "-stat=false", "-protocol=2"); got.Code != command.ExitOK {
		t.Errorf("version 2: %+v", got)
	}
}
