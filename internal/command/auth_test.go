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

// makeKeyFile makes keys as a user does, and returns the file of the private one.
func makeKeyFile(t *testing.T) (key string) {
	t.Helper()
	key = filepath.Join(t.TempDir(), "key.pem")
	if got := runProgram(Hubctl, "token", "-sign-key="+key); got.code != ExitOK || !strings.Contains(got.stdout, "-auth-keys="+key+".pub") {
		t.Fatalf("no keys: %+v", got)
	}
	return key
}

// makeTokenFile makes a token as a user does.
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

// TestAuth_TokensEndToEnd makes keys and tokens, and has programs show them.
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
		"asks for a token":    nil,
		"wrong issuer":        {"-token-file=" + makeTokenFile(t, key, "-sub=bob", "-issuer=others")},
		"signature not valid": {"-token-file=" + makeTokenFile(t, makeKeyFile(t), "-sub=bob", "-issuer=us")},
		"no such file":        {"-token-file=nothing"},
		"one can be shown":    {"-token-file=" + bob, "-token=x"},
	} {
		if got := runProgram(Hubctl, hubctlArgs(port, "list", args...)...); got.code == ExitOK || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
	if got := runProgram(Simulation, "-addr=127.0.0.1", "-port="+port, "-token-file="+load, "-ncli=3"); got.code != ExitUsage || !strings.Contains(got.stderr, "-protocol=2") {
		t.Errorf("the simulation in version 1: %+v", got)
	}
	got = runProgram(Simulation, "-addr=127.0.0.1", "-port="+port, "-ncli=1", "-stat=false")
	if got.code != ExitFailure || !strings.Contains(got.stderr, "it may ask for a token, which version 1 cannot show") ||
		!strings.Contains(got.stderr, "-protocol=2 and -token-file are for tokens") || strings.Contains(got.stderr, "-embed") {
		t.Errorf("the simulation in version 1 without a token: %+v", got)
	}
	if text := s.stderr.String(); strings.Contains(text, "eyJ") {
		t.Errorf("a token is in the log: %s", text)
	}
}

// TestAuth_ExpiredTokenDisconnects sends the listener away, who goes on with a newer one.
func TestAuth_ExpiredTokenDisconnects(t *testing.T) {
	key := makeKeyFile(t)
	_, port := startServer(t, "-auth-keys="+key+".pub", "-auth-leeway=0s")
	file := makeTokenFile(t, key, "-sub=alice", "-id=5", "-good-for=2s") // to the second
	l, _ := startListen(t, port, "-token-file="+file)
	newer, err := os.ReadFile(makeTokenFile(t, key, "-sub=alice", "-id=5"))
	if err != nil {
		t.Fatal(err)
	}
	l.waitForLine(&l.stderr, "disconnected")
	writeFile(t, file, newer) // so late that the old one is shown once more, or not
	if line := l.waitForLine(&l.stderr, "resumed"); !strings.Contains(line, "id=5") {
		t.Errorf("came back: %s", line)
	}
	other := makeTokenFile(t, key, "-sub=bob")
	got := runWithStdin("hello", hubctlArgs(port, "send", "-to=5", "-token-file="+other)...)
	checkResult(t, got, ExitOK, "5  received\n", "")
}

// TestAuth_ReloadedKeysApply are taken up while the hub runs, and wrong ones are not.
func TestAuth_ReloadedKeysApply(t *testing.T) {
	first, second := makeKeyFile(t), makeKeyFile(t)
	keys := first + ".pub"
	s, port := startServer(t, "-auth-keys="+keys)
	a, b := makeTokenFile(t, first, "-sub=a"), makeTokenFile(t, second, "-sub=b")
	isAccepted := func(file string) bool {
		return runProgram(Hubctl, hubctlArgs(port, "list", "-token-file="+file)...).code == ExitOK
	}
	if !isAccepted(a) || isAccepted(b) {
		t.Error("at first")
	}
	writeFile(t, keys, []byte("nonsense"))
	s.reload("everything stays as it was")
	if !isAccepted(a) {
		t.Error("with a file that holds no keys")
	}
	text, err := os.ReadFile(second + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, keys, text)
	s.reload("new rules of who may come in taken up")
	if isAccepted(a) || !isAccepted(b) {
		t.Error("with other keys")
	}
}

// certFlags returns the flags by which hubctl and others reach a hub over TLS and show a certificate.
func certFlags(t *testing.T, ca string, pair testcerts.Pair) []string {
	t.Helper()
	cert, key := pair.WriteFiles(t)
	return []string{"-addr=hubs://127.0.0.1", "-ca=" + ca, "-cert=" + cert, "-key=" + key}
}

// writeCertsFile writes a file that says what certificates allow.
func writeCertsFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "certs.json")
	writeFile(t, file, []byte(text))
	return file
}

const certsJSON = `[{"cert": "alice.example", "hub_id": "5"}, {"cert": "urn:bob", "hub_id": 6, "hub_send": ["5-6"]}]`

// TestAuth_CertificatesEndToEnd has programs show them to a hub that knows what they allow.
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
	if got := runProgram(Hubctl, mallory...); got.code == ExitOK || !strings.Contains(got.stderr, `nobody of the name "mallory.example" may come in`) {
		t.Errorf("one of no entry: %+v", got)
	}
	writeFile(t, file, []byte(`[{"cert": "mallory.example", "hub_list": "perhaps"}]`))
	if line := s.reload("everything stays as it was"); !strings.Contains(line, `-auth-certs: `+file+`: entry 1 (cert \"mallory.example\"): hub_list \"perhaps\": allowed are true and false`) {
		t.Errorf("a wrong file: %s", line)
	}
	if got := runProgram(Hubctl, mallory...); got.code == ExitOK {
		t.Error("a wrong file lets mallory in")
	}
	writeFile(t, file, []byte(`[{"cert": "mallory.example"}]`))
	s.reload(reloaded)
	if got := runProgram(Hubctl, mallory...); got.code != ExitOK {
		t.Errorf("an entry that is new: %+v", got)
	}
	if got := runProgram(Hubctl, hubctlArgs(port, "list", certFlags(t, ca, bob)...)...); got.code == ExitOK {
		t.Error("an entry that was taken out lets bob in")
	}
}

// TestAuth_ExpiredCertificateDisconnects sends the listener away, who comes back with a newer one.
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
		t.Errorf("%s came back: %s", id, line)
	}
}

// TestAuth_AnyVerifiedCertificate let everybody in, until they end, in both versions.
func TestAuth_AnyVerifiedCertificate(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	// The session of a client whose certificate has ended waits for a newer one so long.
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
			t.Errorf("the end in version %d: %v", version, err)
		}
		if early := time.Until(short.Leaf.NotAfter); early > 0 {
			t.Errorf("in version %d it came %v before that of the certificate", version, early)
		}
		if line := s.waitForLine(&s.stderr, fmt.Sprintf(`"client disconnected","client":%d,`, c.ID())); !strings.Contains(line, "permission over") {
			t.Errorf("the end in version %d is logged as %s", version, line)
		}
	}
}

// TestAuth_TokenAndCertificateRequired takes both of everybody, and ends with the first that ends.
func TestAuth_TokenAndCertificateRequired(t *testing.T) {
	authority, key := testcerts.NewAuthority(t), makeKeyFile(t)
	_, port, ca := startTLSServer(t, "-tls-client-ca="+authority.WriteFile(), "-auth-keys="+key+".pub", "-auth-leeway=0s")
	token := "-token-file=" + makeTokenFile(t, key, "-sub=alice", "-id=5")
	flags := certFlags(t, ca, authority.Issue(time.Now().Add(time.Hour), "gate.example"))
	if _, id := startListen(t, port, append(flags, token)...); id != "5" {
		t.Errorf("alice is %s", id)
	}
	for want, args := range map[string][]string{
		"this hub asks for a token": flags,
		"it asks for a certificate": {flags[0], flags[1], token},
		"signature not valid":       append([]string{"-token-file=" + makeTokenFile(t, makeKeyFile(t), "-sub=alice")}, flags...),
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

// TestAuth_RequireCertificateNeedsRestart to begin with; whom they let in does not.
func TestAuth_RequireCertificateNeedsRestart(t *testing.T) {
	t.Setenv("HUB_TLS_MIN", "1.2")
	authority := testcerts.NewAuthority(t)
	s, _, _ := startTLSServer(t)
	t.Setenv("HUB_TLS_CLIENT_CA", authority.WriteFile())
	s.reload("only a restart begins or ends to ask for certificates")

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
		"which take -auth-keys":                     {"-auth-issuer=us"},
		"cannot show a token":                       {"-auth-keys=" + key + ".pub", "-classic=on"},
		"for which -tls-client-ca asks":             {"-auth-certs=" + writeCertsFile(t, certsJSON)},
		"both say what a client may do":             append([]string{"-auth-keys=" + key + ".pub", "-auth-certs=" + writeCertsFile(t, certsJSON)}, mutual...),
		"-auth-certs: open nothing":                 append([]string{"-auth-certs=nothing"}, mutual...),
		"not a JSON list":                           append([]string{"-auth-certs=" + key}, mutual...),
	} {
		if got := runProgram(Server, append(args, "-addr=127.0.0.1", "-port=0")...); got.code != ExitUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
	if got := runProgram(Hubctl, "token", "-sign-key="+key); got.code != ExitFailure || !strings.Contains(got.stderr, "exists, and stays") {
		t.Errorf("keys are written over others: %+v", got)
	}
	if got := runProgram(Hubctl, "token", "-sign-key=nothing", "-sub=x"); got.code != ExitFailure || !strings.Contains(got.stderr, "without -sub a pair of keys is made") {
		t.Errorf("without a key: %+v", got)
	}
	if got := runProgram(Hubctl, "token", "-sign-key="+key, "-sub=x", "-send=5-2"); got.code != ExitFailure || !strings.Contains(got.stderr, "-send=5-2") {
		t.Errorf("a range that is none: %+v", got)
	}
}

// TestAuth_WarnsOfIgnoredKeys at the start, at a reload and by -check, and the others count.
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

// TestAuth_WarnsWhenUnauthenticated only where others than this machine can come in.
func TestAuth_WarnsWhenUnauthenticated(t *testing.T) {
	const warning = "anybody who can reach"
	local, _ := startServer(t)
	if strings.Contains(local.stderr.String(), warning) {
		t.Error("warned of on loopback")
	}
	open := startProgram(t, Server, "-addr=", "-port=0")
	open.waitForLine(&open.stderr, warning)
	withTokens := startProgram(t, Server, "-addr=", "-port=0", "-auth-keys="+makeKeyFile(t)+".pub")
	withTokens.waitForLine(&withTokens.stderr, "listening")
	got := withTokens.interrupt()
	if strings.Contains(got.stderr, warning) {
		t.Error("warned of with tokens")
	}
}

// TestServer_ClassicOffRejectsVersion1 shuts out those who speak version 1.
func TestServer_ClassicOffRejectsVersion1(t *testing.T) {
	_, port := startServer(t, "-classic=off")
	if got := runProgram(Simulation, "-addr=127.0.0.1", "-port="+port, "-ncli=1", "-stat=false", "-timeout="+(5*time.Second).String()); got.code == ExitOK {
		t.Error("version 1 is spoken")
	}
	if got := runProgram(Simulation, "-addr=127.0.0.1", "-port="+port, "-ncli=1", "-stat=false", "-protocol=2"); got.code != ExitOK {
		t.Errorf("version 2: %+v", got)
	}
}
