package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// keyPair makes keys as a user does, and returns the file of the private one.
func keyPair(t *testing.T) (key string) {
	t.Helper()
	key = filepath.Join(t.TempDir(), "key.pem")
	if got := run(Hubctl, "token", "-sign-key="+key); got.code != ExitOK || !strings.Contains(got.stdout, "-auth-keys="+key+".pub") {
		t.Fatalf("no keys: %+v", got)
	}
	return key
}

// tokenFor makes a token as a user does.
func tokenFor(t *testing.T, key string, args ...string) string {
	t.Helper()
	got := run(Hubctl, append([]string{"token", "-sign-key=" + key}, args...)...)
	if got.code != ExitOK {
		t.Fatalf("no token: %+v", got)
	}
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, []byte(got.stdout))
	return file
}

// TestTokensFromEndToEnd makes keys and tokens, and has programs show them.
func TestTokensFromEndToEnd(t *testing.T) {
	key := keyPair(t)
	s, port, addr := startAdmin(t, "-admin=127.0.0.1:0", "-auth-keys="+key+".pub", "-auth-issuer=us")
	alice := tokenFor(t, key, "-sub=alice", "-id=5", "-issuer=us")
	_, id := startListen(t, port, "-token-file="+alice)
	if id != "5" {
		t.Errorf("alice is %s", id)
	}
	if _, text := ask(t, addr, "/api/clients/5", ""); !strings.Contains(text, `"subject":"alice"`) {
		t.Errorf("alice is shown as %s", text)
	}
	bob := tokenFor(t, key, "-sub=bob", "-send=5-6", "-issuer=us")
	got := runFed("hello", at(port, "send", "-to=5,6,7", "-token-file="+bob)...)
	checkOutcome(t, got, ExitSome, "5  received\n6  unknown\n7  refused\n", "1 of 3 receivers")
	text, err := os.ReadFile(bob)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HUBCTL_TOKEN", strings.TrimSpace(string(text)))
	if got := run(Hubctl, at(port, "list")...); got.code != ExitOK {
		t.Errorf("a token from the environment: %+v", got)
	}
	os.Unsetenv("HUBCTL_TOKEN")
	load := tokenFor(t, key, "-sub=load", "-issuer=us")
	if got := run(Simulation, "-addr=127.0.0.1", "-port="+port, "-token-file="+load, "-protocol=2", "-ncli=3", "-nmex=5", "-stat=false"); got.code != ExitOK {
		t.Errorf("the simulation: %+v", got)
	}
	for want, args := range map[string][]string{
		"asks for a token":            nil,
		"from somebody else":          {"-token-file=" + tokenFor(t, key, "-sub=bob", "-issuer=others")},
		"nobody whom this hub trusts": {"-token-file=" + tokenFor(t, keyPair(t), "-sub=bob", "-issuer=us")},
		"no such file":                {"-token-file=nothing"},
		"one can be shown":            {"-token-file=" + bob, "-token=x"},
	} {
		if got := run(Hubctl, at(port, "list", args...)...); got.code == ExitOK || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
	if got := run(Simulation, "-addr=127.0.0.1", "-port="+port, "-token-file="+load, "-ncli=3"); got.code != ExitUsage || !strings.Contains(got.stderr, "-protocol=2") {
		t.Errorf("the simulation in version 1: %+v", got)
	}
	if text := s.stderr.String(); strings.Contains(text, "eyJ") {
		t.Errorf("a token is in the log: %s", text)
	}
}

// TestATokenThatEnds sends the listener away, who comes back with a newer one.
func TestATokenThatEnds(t *testing.T) {
	key := keyPair(t)
	_, port := startServer(t, "-auth-keys="+key+".pub", "-auth-leeway=0s")
	file := tokenFor(t, key, "-sub=alice", "-id=5", "-good-for=2s") // to the second
	l, _ := startListen(t, port, "-token-file="+file)
	newer, err := os.ReadFile(tokenFor(t, key, "-sub=alice", "-id=5"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, newer)
	l.awaitLine(&l.stderr, "disconnected")
	if line := l.awaitLine(&l.stderr, "new id"); !strings.Contains(line, "id=5") {
		t.Errorf("came back: %s", line)
	}
	other := tokenFor(t, key, "-sub=bob")
	got := runFed("hello", at(port, "send", "-to=5", "-token-file="+other)...)
	checkOutcome(t, got, ExitOK, "5  received\n", "")
}

// TestKeysThatChange are taken up while the hub runs, and wrong ones are not.
func TestKeysThatChange(t *testing.T) {
	first, second := keyPair(t), keyPair(t)
	keys := first + ".pub"
	s, port := startServer(t, "-auth-keys="+keys)
	a, b := tokenFor(t, first, "-sub=a"), tokenFor(t, second, "-sub=b")
	comesIn := func(file string) bool {
		return run(Hubctl, at(port, "list", "-token-file="+file)...).code == ExitOK
	}
	if !comesIn(a) || comesIn(b) {
		t.Error("at first")
	}
	write(t, keys, []byte("nonsense"))
	s.reload("everything stays as it was")
	if !comesIn(a) {
		t.Error("with a file that holds no keys")
	}
	text, err := os.ReadFile(second + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	write(t, keys, text)
	s.reload("configuration reloaded")
	if comesIn(a) || !comesIn(b) {
		t.Error("with other keys")
	}
}

func TestAccessThatCannotBe(t *testing.T) {
	key := keyPair(t)
	for want, args := range map[string][]string{
		"-auth-keys: open nothing":              {"-auth-keys=nothing"},
		"private keys belong to those who sign": {"-auth-keys=" + key},
		"which take -auth-keys":                 {"-auth-issuer=us"},
		"cannot show a token":                   {"-auth-keys=" + key + ".pub", "-classic=on"},
	} {
		if got := run(Server, append(args, "-addr=127.0.0.1", "-port=0")...); got.code != ExitUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
	if got := run(Hubctl, "token", "-sign-key="+key); got.code != ExitFailure || !strings.Contains(got.stderr, "exists") {
		t.Errorf("keys are written over others: %+v", got)
	}
	if got := run(Hubctl, "token", "-sign-key=nothing", "-sub=x"); got.code != ExitFailure || !strings.Contains(got.stderr, "without -sub a pair of keys is made") {
		t.Errorf("without a key: %+v", got)
	}
	if got := run(Hubctl, "token", "-sign-key="+key, "-sub=x", "-send=5-2"); got.code != ExitFailure || !strings.Contains(got.stderr, "-send=5-2") {
		t.Errorf("a range that is none: %+v", got)
	}
}

// TestStrangersAreWarnedOf only where others than this machine can come in.
func TestStrangersAreWarnedOf(t *testing.T) {
	const warning = "anybody who can reach"
	local, _ := startServer(t)
	if strings.Contains(local.stderr.String(), warning) {
		t.Error("warned of on loopback")
	}
	open := start(t, Server, "-addr=", "-port=0")
	open.awaitLine(&open.stderr, warning)
	guarded := start(t, Server, "-addr=", "-port=0", "-auth-keys="+keyPair(t)+".pub")
	guarded.awaitLine(&guarded.stderr, "listening")
	got := guarded.interrupt()
	if strings.Contains(got.stderr, warning) {
		t.Error("warned of with tokens")
	}
}

// TestClassicOff shuts out those who speak version 1.
func TestClassicOff(t *testing.T) {
	_, port := startServer(t, "-classic=off")
	if got := run(Simulation, "-addr=127.0.0.1", "-port="+port, "-ncli=1", "-stat=false", "-timeout="+(5*time.Second).String()); got.code == ExitOK {
		t.Error("version 1 is spoken")
	}
	if got := run(Simulation, "-addr=127.0.0.1", "-port="+port, "-ncli=1", "-stat=false", "-protocol=2"); got.code != ExitOK {
		t.Errorf("version 2: %+v", got)
	}
}
