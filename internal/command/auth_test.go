package command

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
	"github.com/sechlol/go-message-hub/wire"
)

// makeKeyFile makes a key pair with hubctl and returns the file of the private key.
func makeKeyFile(t *testing.T) (key string) {
	t.Helper()
	key = filepath.Join(t.TempDir(), "key.pem")
	if got := runProgram(Hubctl, "token", "-sign-key="+key); got.code != ExitOK || !strings.Contains(got.stdout, "-auth-keys="+key+".pub") {
		t.Fatalf("no keys: %+v", got)
	}
	return key
}

// makeTokenFile makes a token with hubctl and returns its file.
func makeTokenFile(t *testing.T, key string, args ...string) string {
	t.Helper()
	got := runProgram(Hubctl, append([]string{"token", "-sign-key=" + key}, args...)...)
	if got.code != ExitOK {
		t.Fatalf("no token: %+v", got)
	}
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, []byte(got.stdout))
	return file
}

// TestAuth_TokensEndToEnd makes keys and tokens with hubctl and uses them with all programs.
func TestAuth_TokensEndToEnd(t *testing.T) {
	key := makeKeyFile(t)
	s, port, addr := startServerWithAdmin(t, "-admin=127.0.0.1:0", "-auth-keys="+key+".pub", "-auth-issuer=us")
	alice := makeTokenFile(t, key, "-sub=alice", "-id=5", "-issuer=us")
	_, id := startListen(t, port, "-token-file="+alice)
	if id != "5" {
		t.Errorf("alice is %s", id)
	}
	if _, text := httpGet(t, addr, "/api/clients/5", ""); !strings.Contains(text, `"subject":"alice"`) {
		t.Errorf("alice is shown as %s", text)
	}
	bob := makeTokenFile(t, key, "-sub=bob", "-send=5-6", "-issuer=us")
	got := runWithStdin("hello", hubctlArgs(port, "send", "-to=5,6,7", "-token-file="+bob)...)
	checkResult(t, got, ExitPartial, "5  received\n6  unknown\n7  refused\n", "1 of 3 receivers")
	text, err := os.ReadFile(bob)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HUBCTL_TOKEN", strings.TrimSpace(string(text)))
	if got := runProgram(Hubctl, hubctlArgs(port, "list")...); got.code != ExitOK {
		t.Errorf("a token from the environment: %+v", got)
	}
	os.Unsetenv("HUBCTL_TOKEN")
	load := makeTokenFile(t, key, "-sub=load", "-issuer=us")
	if got := runProgram(Simulation, "-addr=127.0.0.1", "-port="+port, "-token-file="+load, "-protocol=2", "-ncli=3", "-nmex=5", "-stat=false"); got.code != ExitOK {
		t.Errorf("the simulation: %+v", got)
	}
	for want, args := range map[string][]string{
		"a token is required": nil,
		"wrong issuer":        {"-token-file=" + makeTokenFile(t, key, "-sub=bob", "-issuer=others")},
		"signature not valid": {"-token-file=" + makeTokenFile(t, makeKeyFile(t), "-sub=bob", "-issuer=us")},
		"no such file":        {"-token-file=nothing"},
		"exclude each other":  {"-token-file=" + bob, "-token=x"},
	} {
		if got := runProgram(Hubctl, hubctlArgs(port, "list", args...)...); got.code == ExitOK || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
	if got := runProgram(Simulation, "-addr=127.0.0.1", "-port="+port, "-token-file="+load, "-ncli=3"); got.code != ExitUsage || !strings.Contains(got.stderr, "-protocol=2") {
		t.Errorf("the simulation in version 1: %+v", got)
	}
	got = runProgram(Simulation, "-addr=127.0.0.1", "-port="+port, "-ncli=1", "-stat=false")
	if got.code != ExitFailure || !strings.Contains(got.stderr, "it may require a token, which version 1 cannot send") ||
		!strings.Contains(got.stderr, "-protocol=2 and -token-file are for tokens") || strings.Contains(got.stderr, "-embed") {
		t.Errorf("the simulation in version 1 without a token: %+v", got)
	}
	if text := s.stderr.String(); strings.Contains(text, "eyJ") {
		t.Errorf("a token is in the log: %s", text)
	}
}

// TestAuth_ExpiredTokenDisconnects checks that a listener whose token expires resumes its
// session with a newer token.
func TestAuth_ExpiredTokenDisconnects(t *testing.T) {
	key := makeKeyFile(t)
	_, port := startServer(t, "-auth-keys="+key+".pub", "-auth-leeway=0s")
	file := makeTokenFile(t, key, "-sub=alice", "-id=5", "-good-for=2s") // resolution: 1 s
	l, _ := startListen(t, port, "-token-file="+file)
	newer, err := os.ReadFile(makeTokenFile(t, key, "-sub=alice", "-id=5"))
	if err != nil {
		t.Fatal(err)
	}
	l.waitForLine(&l.stderr, "disconnected")
	writeFile(t, file, newer) // the listener can send the old token once more before this
	if line := l.waitForLine(&l.stderr, "resumed"); !strings.Contains(line, "id=5") {
		t.Errorf("resumed: %s", line)
	}
	other := makeTokenFile(t, key, "-sub=bob")
	got := runWithStdin("hello", hubctlArgs(port, "send", "-to=5", "-token-file="+other)...)
	checkResult(t, got, ExitOK, "5  received\n", "")
}

// TestAuth_ReloadedKeysApply checks that a reload applies new keys, and that invalid keys
// change nothing.
func TestAuth_ReloadedKeysApply(t *testing.T) {
	first, second := makeKeyFile(t), makeKeyFile(t)
	keys := first + ".pub"
	s, port := startServer(t, "-auth-keys="+keys)
	a, b := makeTokenFile(t, first, "-sub=a"), makeTokenFile(t, second, "-sub=b")
	isAccepted := func(file string) bool {
		return runProgram(Hubctl, hubctlArgs(port, "list", "-token-file="+file)...).code == ExitOK
	}
	if !isAccepted(a) || isAccepted(b) {
		t.Error("with the first keys")
	}
	writeFile(t, keys, []byte("nonsense"))
	s.reload("the old settings remain in effect")
	if !isAccepted(a) {
		t.Error("with an invalid key file")
	}
	text, err := os.ReadFile(second + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, keys, text)
	s.reload("authentication settings reloaded")
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
	writeFile(t, file, []byte(text))
	return file
}

const certsJSON = `[{"cert": "alice.example", "hub_id": "5"}, {"cert": "urn:bob", "hub_id": 6, "hub_send": ["5-6"]}]`

// TestAuth_CertificatesEndToEnd connects with certificates whose permissions are in
// -auth-certs.
func TestAuth_CertificatesEndToEnd(t *testing.T) {
	authority, soon := testcerts.NewAuthority(t), time.Now().Add(time.Hour)
	file := writeCertsFile(t, certsJSON)
	s, port, ca := startTLSServer(t, "-tls-client-ca="+authority.WriteFile(), "-auth-certs="+file)
	if _, id := startListen(t, port, certFlags(t, ca, authority.Issue(soon, "alice.example"))...); id != "5" {
		t.Errorf("alice is %s", id)
	}
	bob := authority.Issue(soon, "urn:bob")
	got := runWithStdin("hello", hubctlArgs(port, "send", append(certFlags(t, ca, bob), "-to=5,6,7")...)...)
	checkResult(t, got, ExitPartial, "5  received\n6  received\n7  refused\n", "2 of 3 receivers")

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

	mallory := hubctlArgs(port, "list", certFlags(t, ca, authority.Issue(soon, "mallory.example"))...)
	if got := runProgram(Hubctl, mallory...); got.code == ExitOK || !strings.Contains(got.stderr, `"mallory.example" is not in the list of the hub`) {
		t.Errorf("certificate without an entry: %+v", got)
	}
	writeFile(t, file, []byte(`[{"cert": "mallory.example", "hub_list": "perhaps"}]`))
	if line := s.reload("the old settings remain in effect"); !strings.Contains(line, `-auth-certs: `+file+`: entry 1 (cert \"mallory.example\"): hub_list \"perhaps\": allowed are true and false`) {
		t.Errorf("invalid file: %s", line)
	}
	if got := runProgram(Hubctl, mallory...); got.code == ExitOK {
		t.Error("an invalid file admits mallory")
	}
	writeFile(t, file, []byte(`[{"cert": "mallory.example"}]`))
	s.reload(reloaded)
	if got := runProgram(Hubctl, mallory...); got.code != ExitOK {
		t.Errorf("new entry: %+v", got)
	}
	if got := runProgram(Hubctl, hubctlArgs(port, "list", certFlags(t, ca, bob)...)...); got.code == ExitOK {
		t.Error("a removed entry admits bob")
	}
}

// TestAuth_ExpiredCertificateDisconnects checks that a listener whose certificate expires
// resumes its session with a newer certificate.
func TestAuth_ExpiredCertificateDisconnects(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	_, port, ca := startTLSServer(t, "-tls-client-ca="+authority.WriteFile(), "-auth-certs="+writeCertsFile(t, certsJSON))
	cert, key := authority.Issue(time.Now().Add(3*time.Second), "alice.example").WriteFiles(t)
	l, id := startListen(t, port, "-addr=hubs://127.0.0.1", "-ca="+ca, "-cert="+cert, "-key="+key)
	newer := authority.Issue(time.Now().Add(time.Hour), "alice.example")
	writeFile(t, cert, newer.Cert)
	writeFile(t, key, newer.Key)
	l.waitForLine(&l.stderr, "credentials expired")
	if line := l.waitForLine(&l.stderr, "resumed"); id != "5" || !strings.Contains(line, "id=5") {
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
		if got := runProgram(Simulation, append(load, "-protocol="+version)...); got.code != ExitOK {
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
		if line := s.waitForLine(&s.stderr, fmt.Sprintf(`"client disconnected","client":%d,`, c.ID())); !strings.Contains(line, "permission over") {
			t.Errorf("version %d: logged as %s", version, line)
		}
	}
}

// TestAuth_TokenAndCertificateRequired requires both from each client and checks that a client
// is disconnected when the first of the two expires.
func TestAuth_TokenAndCertificateRequired(t *testing.T) {
	authority, key := testcerts.NewAuthority(t), makeKeyFile(t)
	_, port, ca := startTLSServer(t, "-tls-client-ca="+authority.WriteFile(), "-auth-keys="+key+".pub", "-auth-leeway=0s")
	token := "-token-file=" + makeTokenFile(t, key, "-sub=alice", "-id=5")
	flags := certFlags(t, ca, authority.Issue(time.Now().Add(time.Hour), "gate.example"))
	if _, id := startListen(t, port, append(flags, token)...); id != "5" {
		t.Errorf("alice is %s", id)
	}
	for want, args := range map[string][]string{
		"a token is required":                   flags,
		"the hub requires a client certificate": {flags[0], flags[1], token},
		"signature not valid":                   append([]string{"-token-file=" + makeTokenFile(t, makeKeyFile(t), "-sub=alice")}, flags...),
	} {
		if got := runProgram(Hubctl, hubctlArgs(port, "list", args...)...); got.code == ExitOK || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
	for _, args := range []func() []string{
		func() []string {
			return append(certFlags(t, ca, authority.Issue(time.Now().Add(3*time.Second), "gate.example")), token)
		},
		func() []string {
			return append(flags, "-token-file="+makeTokenFile(t, key, "-sub=bob", "-good-for=3s"))
		},
	} {
		l, _ := startListen(t, port, args()...)
		l.waitForLine(&l.stderr, "credentials expired")
	}
}

// TestAuth_RequireCertificateNeedsRestart checks that requiring certificates needs a restart,
// but changing -auth-certs does not.
func TestAuth_RequireCertificateNeedsRestart(t *testing.T) {
	t.Setenv("HUB_TLS_MIN", "1.2")
	authority := testcerts.NewAuthority(t)
	s, _, _ := startTLSServer(t)
	t.Setenv("HUB_TLS_CLIENT_CA", authority.WriteFile())
	s.reload("enabling or disabling client certificates requires a restart")

	os.Unsetenv("HUB_TLS_CLIENT_CA")
	s, port, ca := startTLSServer(t, "-tls-client-ca="+authority.WriteFile())
	bob := hubctlArgs(port, "list", certFlags(t, ca, authority.Issue(time.Now().Add(time.Hour), "carol.example"))...)
	if got := runProgram(Hubctl, bob...); got.code != ExitOK {
		t.Errorf("without a file: %+v", got)
	}
	t.Setenv("HUB_AUTH_CERTS", writeCertsFile(t, certsJSON))
	s.reload(reloaded)
	if got := runProgram(Hubctl, bob...); got.code == ExitOK {
		t.Error("with a file that names others")
	}
}

func TestAuthFlags_Invalid(t *testing.T) {
	key := makeKeyFile(t)
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
		if got := runProgram(Server, append(args, "-addr=127.0.0.1", "-port=0")...); got.code != ExitUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
	if got := runProgram(Hubctl, "token", "-sign-key="+key); got.code != ExitFailure || !strings.Contains(got.stderr, "exists and was not overwritten") {
		t.Errorf("existing keys were overwritten: %+v", got)
	}
	if got := runProgram(Hubctl, "token", "-sign-key=nothing", "-sub=x"); got.code != ExitFailure || !strings.Contains(got.stderr, "run without -sub to make a key pair") {
		t.Errorf("without a key: %+v", got)
	}
	if got := runProgram(Hubctl, "token", "-sign-key="+key, "-sub=x", "-send=5-2"); got.code != ExitFailure || !strings.Contains(got.stderr, "-send=5-2") {
		t.Errorf("invalid range: %+v", got)
	}
}

// TestAuth_WarnsOfIgnoredKeys checks the warnings at the start, at a reload and by -check, and
// that the valid keys are used.
func TestAuth_WarnsOfIgnoredKeys(t *testing.T) {
	key := makeKeyFile(t)
	good, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "keys")
	foreign := func(kind string) string { return "-----BEGIN " + kind + "-----\nMA==\n-----END " + kind + "-----\n" }
	writeFile(t, keys, []byte("\ufeff"+foreign("FIRST")+string(good)))
	if got := runProgram(Server, "-check", "-auth-keys="+keys); got.code != ExitOK || !strings.Contains(got.stderr, "-auth-keys="+keys+": ignored: key 1: it is a FIRST") {
		t.Errorf("-check: %+v", got)
	}
	s, port := startServer(t, "-auth-keys="+keys)
	if text := s.stderr.String(); !strings.Contains(text, "ignored: key 1: it is a FIRST") {
		t.Errorf("at the start: %s", text)
	}
	file := filepath.Join(t.TempDir(), "token")
	token, err := os.ReadFile(makeTokenFile(t, key, "-sub=alice"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, append([]byte("\ufeff"), token...))
	if got := runProgram(Hubctl, hubctlArgs(port, "list", "-token-file="+file)...); got.code != ExitOK {
		t.Errorf("with the other key, and a byte order mark before the token: %+v", got)
	}
	writeFile(t, keys, append(good, foreign("SECOND")...))
	if text := s.reload("configuration reloaded"); !strings.Contains(text, "ignored: key 2: it is a SECOND") {
		t.Errorf("at a reload: %s", text)
	}
}

// TestAuth_WarnsWhenUnauthenticated checks that the hub warns only if other machines can
// connect without authentication.
func TestAuth_WarnsWhenUnauthenticated(t *testing.T) {
	const warning = "any client that can reach"
	local, _ := startServer(t)
	if strings.Contains(local.stderr.String(), warning) {
		t.Error("warning on a loopback address")
	}
	open := startProgram(t, Server, "-addr=", "-port=0")
	open.waitForLine(&open.stderr, warning)
	withTokens := startProgram(t, Server, "-addr=", "-port=0", "-auth-keys="+makeKeyFile(t)+".pub")
	withTokens.waitForLine(&withTokens.stderr, "listening")
	got := withTokens.interrupt()
	if strings.Contains(got.stderr, warning) {
		t.Error("warning with tokens")
	}
}

// TestServer_ClassicOffRejectsVersion1 checks that -classic=off rejects version 1 clients and
// accepts version 2 clients.
func TestServer_ClassicOffRejectsVersion1(t *testing.T) {
	_, port := startServer(t, "-classic=off")
	if got := runProgram(Simulation, "-addr=127.0.0.1", "-port="+port, "-ncli=1", "-stat=false", "-timeout="+(5*time.Second).String()); got.code == ExitOK {
		t.Error("version 1 is accepted")
	}
	if got := runProgram(Simulation, "-addr=127.0.0.1", "-port="+port, "-ncli=1", "-stat=false", "-protocol=2"); got.code != ExitOK {
		t.Errorf("version 2: %+v", got)
	}
}
