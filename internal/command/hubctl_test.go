package command

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

func init() {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, hubctlPrefix+"_") {
			os.Unsetenv(name) // the tests set what they need
		}
	}
}

// hubctlArgs returns the command line of subcommand cmd for the hub at port.
func hubctlArgs(port, cmd string, args ...string) []string {
	return append([]string{cmd, "-addr=127.0.0.1", "-port=" + port}, args...)
}

// runWithStdin runs hubctl with the given standard input.
func runWithStdin(stdin string, args ...string) programResult {
	var stdout, stderr outputBuffer
	code := Hubctl(Process{Args: args, Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr})
	return programResult{code, stdout.String(), stderr.String()}
}

// startListen starts hubctl listen and returns its id once it listens.
func startListen(t *testing.T, port string, args ...string) (l *runningProgram, id string) {
	t.Helper()
	l = startProgram(t, Hubctl, hubctlArgs(port, "listen", args...)...)
	_, id, _ = strings.Cut(l.waitForLine(&l.stderr, "connected"), " id=")
	id, _, _ = strings.Cut(id, " ")
	if _, err := strconv.ParseUint(id, 10, 64); err != nil {
		t.Fatalf("the first line does not contain the id: %s", &l.stderr)
	}
	return l, id
}

// dialVersion connects a client of the given protocol version.
func dialVersion(t *testing.T, port string, version int) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port), &client.Options{Version: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// decodeLines returns the JSON objects of text, one per line.
func decodeLines[T any](t *testing.T, text string) (objects []T) {
	t.Helper()
	for line := range strings.Lines(text) {
		var object T
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		objects = append(objects, object)
	}
	return objects
}

// checkResult compares the exit code and standard output with the expected values, and looks
// for a text on standard error.
func checkResult(t *testing.T, got programResult, code int, stdout, stderr string) {
	t.Helper()
	if got.code != code || got.stdout != stdout {
		t.Errorf("exit code %d, want %d; stdout %q, want %q; stderr %s", got.code, code, got.stdout, stdout, got.stderr)
	}
	if !strings.Contains(got.stderr, stderr) || stderr == "" && got.stderr != "" {
		t.Errorf("stderr %q, want %q", got.stderr, stderr)
	}
}

// bodyCases are bodies of several kinds, with the text that hubctl listen prints.
var bodyCases = []struct{ body, line string }{
	{"hello", "hello"},
	{"from a pipe\n", "from a pipe"},
	{"", ""},
	{"größer 漢字", "größer 漢字"},
	{"two\nlines\n", `"two\nlines\n"`},
	{"\x1b[31mred", `"\x1b[31mred"`},
	{`"quoted"`, `"\"quoted\""`},
	{"(5 bytes)", `"(5 bytes)"`},
	{"\xff\xfe\x00", "(3 bytes)"},
}

// TestHubctl_SendToListen sends messages from hubctl send to hubctl listen.
func TestHubctl_SendToListen(t *testing.T) {
	_, port := startServer(t)
	people, first := startListen(t, port)
	program, second := startListen(t, port, "-json")
	for _, tt := range bodyCases {
		got := runWithStdin(tt.body, hubctlArgs(port, "send", "-to="+first+","+second, "-level=processed")...)
		checkResult(t, got, ExitOK, first+"  processed\n"+second+"  processed\n", "")
	}
	lines := strings.Split(people.interrupt().stdout, "\n")
	ended := program.interrupt()
	if ended.code != ExitOK || people.code != ExitOK {
		t.Errorf("exit codes %d and %d after an interrupt", people.code, ended.code)
	}
	objects := decodeLines[map[string]string](t, ended.stdout)
	if len(objects) != len(bodyCases) || len(lines) != len(bodyCases)+1 {
		t.Fatalf("printed\n%v\n%v", lines, objects)
	}
	for i, tt := range bodyCases {
		sender, line, _ := strings.Cut(lines[i], "  ")
		o := objects[i]
		if line != tt.line || sender != o["sender"] || o["seq"] != "1" || !strings.HasSuffix(o["time"], "Z") {
			t.Errorf("%q is printed as %q and %v", tt.body, lines[i], o)
		}
		body, isText := o["body"]
		if raw, err := base64.StdEncoding.DecodeString(o["body_base64"]); !isText && err == nil {
			body = string(raw)
		}
		if body != tt.body {
			t.Errorf("%q is printed as %v", tt.body, o)
		}
	}
}

func TestHubctlListen_EndsAfterN(t *testing.T) {
	_, port := startServer(t)
	l, id := startListen(t, port, "-n=2")
	for _, text := range []string{"a", "b"} {
		checkResult(t, runProgram(Hubctl, hubctlArgs(port, "send", "-to="+id, "-level=processed", text)...), ExitOK, id+"  processed\n", "")
	}
	<-l.done
	if l.code != ExitOK || strings.Count(l.stdout.String(), "\n") != 2 {
		t.Errorf("exit code %d, stdout %q", l.code, &l.stdout)
	}
}

// TestHubctlListen_Reconnects stops the hub and starts another hub on the same port.
func TestHubctlListen_Reconnects(t *testing.T) {
	hub, port := startServer(t)
	l, _ := startListen(t, port)
	hub.interrupt()
	l.waitForLine(&l.stderr, "disconnected")
	startServer(t, "-port="+port)
	l.waitForLine(&l.stderr, "new id")
	if got := l.interrupt(); got.code != ExitOK {
		t.Errorf("exit code %d", got.code)
	}
}

// dialUnacking connects a client that receives messages but never sends a verdict.
func dialUnacking(t *testing.T, port string) *client.Client {
	t.Helper()
	options := client.Options{OnMessage: func(client.Message) {}}
	c, err := client.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port), &options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestHubctlSend_Fates sends to receivers of all kinds: one that acknowledges every level, one
// that only receives, one of version 1, and an unknown id.
func TestHubctlSend_Fates(t *testing.T) {
	_, port := startServer(t)
	_, acking := startListen(t, port)
	unacking, version1 := formatID(dialUnacking(t, port).ID()), formatID(dialVersion(t, port, 1).ID())
	const nobody = "18446744073709551615"
	tests := []struct {
		to, level string
		code      int
		want      string // fates, separated by spaces
	}{
		{acking, "written", ExitOK, "written"},
		{acking, "received", ExitOK, "received"},
		{acking, "processed", ExitOK, "processed"},
		{unacking, "received", ExitOK, "received"},
		{version1, "written", ExitOK, "written"},
		{version1, "received", ExitUndelivered, "written"},
		{version1, "processed", ExitUndelivered, "written"},
		{nobody, "written", ExitUndelivered, "unknown"},
		{acking + "," + nobody, "received", ExitPartial, "received unknown"},
		{acking + "," + version1, "received", ExitPartial, "received written"},
		{acking + "," + acking, "received", ExitOK, "received received"},
		{acking + "," + unacking + "," + nobody, "processed", ExitPartial, "processed received unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.level+" "+tt.to, func(t *testing.T) {
			args := hubctlArgs(port, "send", "-to="+tt.to, "-level="+tt.level, "-ttl=1s", "hi")
			fates := strings.Fields(tt.want)
			message := ""
			if tt.code != ExitOK {
				message = " reached -level=" + tt.level
			}
			checkResult(t, runProgram(Hubctl, args...), tt.code, formatFates(tt.to, fates), message)
			checkFatesAsJSON(t, tt.to, fates, runProgram(Hubctl, slices.Insert(args, 1, "-json")...), tt.code)
		})
	}
}

// TestHubctlListen_BodyTooLarge sends the largest body of the hub to two listeners. The
// listener with a smaller -max-body does not receive the body, and both stay connected.
func TestHubctlListen_BodyTooLarge(t *testing.T) {
	_, port := startServer(t, "-max-body=2MiB")
	_, first := startListen(t, port)
	_, second := startListen(t, port, "-max-body=1MiB")
	file := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(file, bytes.Repeat([]byte{'x'}, 1_500_000), 0o600); err != nil {
		t.Fatal(err)
	}
	to := "-to=" + first + "," + second
	got := runProgram(Hubctl, hubctlArgs(port, "send", to, "-max-body=2MiB", "-file="+file)...)
	checkResult(t, got, ExitPartial, first+"  received\n"+second+"  too large\n", "1 of 2 receivers reached")
	got = runProgram(Hubctl, hubctlArgs(port, "send", to, "small")...)
	checkResult(t, got, ExitOK, first+"  received\n"+second+"  received\n", "")
}

func formatFates(to string, fates []string) string {
	var text strings.Builder
	for i, id := range strings.Split(to, ",") {
		text.WriteString(id + "  " + fates[i] + "\n")
	}
	return text.String()
}

func checkFatesAsJSON(t *testing.T, to string, fates []string, got programResult, code int) {
	t.Helper()
	objects := decodeLines[struct {
		Receiver, Fate string
		Reached        *bool
	}](t, got.stdout)
	if got.code != code || len(objects) != len(fates) {
		t.Fatalf("exit code %d, want %d: %+v", got.code, code, objects)
	}
	reached := 0
	for i, id := range strings.Split(to, ",") {
		if o := objects[i]; o.Receiver != id || o.Fate != fates[i] || o.Reached == nil {
			t.Errorf("got %+v, want %s %s", o, id, fates[i])
		} else if *o.Reached {
			reached++
		}
	}
	if want := map[int]bool{ExitOK: reached == len(fates), ExitUndelivered: reached == 0, ExitPartial: reached > 0 && reached < len(fates)}; !want[code] {
		t.Errorf("%d of %d reached, and exit code %d", reached, len(fates), code)
	}
}

func TestHubctlSend_MessageSources(t *testing.T) {
	_, port := startServer(t)
	receiver := dialVersion(t, port, 2)
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"text", []string{"a text"}, "a text"},
		{"empty text", []string{""}, ""},
		{"text like a flag", []string{"--", "-json"}, "-json"},
		{"nothing", nil, "from a pipe"},
		{"dash", []string{"-"}, "from a pipe"},
		{"file", []string{"-file=" + file}, "from a file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := hubctlArgs(port, "send", append([]string{"-level=written", "-to=" + formatID(receiver.ID())}, tt.args...)...)
			if got := runWithStdin("from a pipe", args...); got.code != ExitOK {
				t.Fatalf("exit code %d: %s", got.code, got.stderr)
			}
			if m, err := receiver.Receive(t.Context()); err != nil || string(m.Body) != tt.want {
				t.Errorf("got %q, %v, want %q", m.Body, err, tt.want)
			}
		})
	}
}

func TestHubctlSend_InvalidMessages(t *testing.T) {
	_, port := startServer(t, "-max-body=1KiB")
	large := strings.Repeat("x", wire.DefaultMaxBody+1)
	file := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(file, []byte(large), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, stdin string
		args        []string
		want        string
	}{
		{"input", large, nil, "standard input is larger than 1MiB, the maximum of a message (-max-body); nothing was sent"},
		{"text", "", []string{large}, "the text is larger than 1MiB"},
		{"file", "", []string{"-file=" + file}, file + " is larger than 1MiB"},
		{"own limit", "four", []string{"-max-body=3"}, "standard input is larger than 3,"},
		{"limit of the hub", large[:1025], nil, "the message has 1025 bytes, and the hub at 127.0.0.1:" + port + " accepts at most 1024; nothing was sent"},
		{"no file", "", []string{"-file=/no/such/file"}, "cannot read the message: open /no/such/file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := runWithStdin(tt.stdin, hubctlArgs(port, "send", append([]string{"-to=1"}, tt.args...)...)...)
			checkResult(t, got, ExitFailure, "", "hubctl send: "+tt.want)
		})
	}
}

// startUnackedSend starts a send to a receiver that never sends a verdict. It returns when the
// receiver has the message.
func startUnackedSend(t *testing.T, port string, args ...string) *runningProgram {
	t.Helper()
	receiver := dialVersion(t, port, 2)
	s := startProgram(t, Hubctl, hubctlArgs(port, "send", append(args, "-to="+formatID(receiver.ID()), "-level=processed", "hi")...)...)
	if _, err := receiver.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHubctlSend_Interrupted(t *testing.T) {
	_, port := startServer(t)
	got := startUnackedSend(t, port).interrupt()
	checkResult(t, got, ExitFailure, "", "hubctl send: interrupted before the hub reported; the fate of the message is unknown\n")
}

func TestHubctlSend_InterruptedWhileReading(t *testing.T) {
	in, out := io.Pipe()
	defer out.Close()
	signals := make(chan os.Signal, 1)
	go func() { // ends when hubctl reads the byte
		if _, err := out.Write([]byte("x")); err == nil {
			signals <- os.Interrupt
		}
	}()
	var stdout, stderr outputBuffer
	code := Hubctl(Process{Args: []string{"send", "-to=1"}, Stdin: in, Stdout: &stdout, Stderr: &stderr, Signals: signals})
	checkResult(t, programResult{code, stdout.String(), stderr.String()}, ExitFailure, "", "hubctl send: interrupted before the message was read; nothing was sent\n")
}

// TestHubctlSend_NoReport sends through a relay that withholds reports.
func TestHubctlSend_NoReport(t *testing.T) {
	_, port := startServer(t)
	relay := startFakeServer(t, func(near net.Conn) {
		far, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			t.Error(err)
			return
		}
		var copies sync.WaitGroup
		copies.Go(func() {
			io.Copy(far, near)
			far.Close()
		})
		for {
			frame := make([]byte, wire.LengthSize)
			if _, err := io.ReadFull(far, frame); err != nil {
				break
			}
			frame = append(frame, make([]byte, binary.BigEndian.Uint32(frame))...)
			if _, err := io.ReadFull(far, frame[wire.LengthSize:]); err != nil {
				break
			}
			if kind, _ := wire.Split(frame); kind != wire.TypeReport {
				near.Write(frame)
			}
		}
		near.Close()
		copies.Wait()
	})
	s := startUnackedSend(t, port, "-timeout=1s", "-port="+relay)
	<-s.done
	checkResult(t, programResult{s.code, s.stdout.String(), s.stderr.String()}, ExitFailure, "", "no report for 1s; the fate of the message is unknown")
}

// TestHubctlSend_ReportBeforeTimeout checks that hubctl gets the known fates if the receiver
// takes longer than -timeout.
func TestHubctlSend_ReportBeforeTimeout(t *testing.T) {
	_, port := startServer(t)
	s := startUnackedSend(t, port, "-timeout=5s")
	<-s.done
	if !strings.HasSuffix(s.stdout.String(), "  received\n") || s.code != ExitUndelivered {
		t.Errorf("exit code %d, stdout %q, stderr %q", s.code, &s.stdout, &s.stderr)
	}
}

// TestHubctlSend_TimeoutReachesHub sends to a receiver that takes longer than the report
// timeout of the hub, but less than -timeout.
func TestHubctlSend_TimeoutReachesHub(t *testing.T) {
	_, port := startServer(t, "-report-timeout=50ms")
	receiver := dialVersion(t, port, 2)
	id := formatID(receiver.ID())
	s := startProgram(t, Hubctl, hubctlArgs(port, "send", "-to="+id, "-level=processed", "-timeout=5m", "task")...)
	m, err := receiver.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(500 * time.Millisecond) // the receiver is busy
	m.Ack()
	<-s.done
	checkResult(t, programResult{s.code, s.stdout.String(), s.stderr.String()}, ExitOK, id+"  processed\n", "")
}

// TestHubctlSend_TimeoutAboveHubMaximum checks that nothing is sent if -timeout exceeds
// -max-report-timeout of the hub.
func TestHubctlSend_TimeoutAboveHubMaximum(t *testing.T) {
	_, port := startServer(t, "-report-timeout=1s", "-max-report-timeout=1m")
	receiver := dialUnacking(t, port)
	got := runProgram(Hubctl, hubctlArgs(port, "send", "-to="+formatID(receiver.ID()), "-timeout=2h", "task")...)
	checkResult(t, got, ExitFailure, "", "reports after at most 1m (its -max-report-timeout), but 1h59m50s was requested; nothing was sent")
	if n := receiver.Stats().MessagesIn; n > 2 { // WELCOME and its id
		t.Errorf("the receiver got %d frames", n)
	}
}

// TestHubctlSend_ConnectionLost sends through a relay that closes the connection.
func TestHubctlSend_ConnectionLost(t *testing.T) {
	_, port := startServer(t)
	cut := make(chan struct{})
	relay := startFakeServer(t, func(near net.Conn) {
		far, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			t.Error(err)
			return
		}
		var copies sync.WaitGroup
		copies.Go(func() { io.Copy(far, near) })
		copies.Go(func() { io.Copy(near, far) })
		select {
		case <-cut:
		case <-t.Context().Done(): // after a failure of the test
		}
		near.Close()
		far.Close()
		copies.Wait()
	})
	s := startUnackedSend(t, port, "-port="+relay)
	close(cut)
	<-s.done
	checkResult(t, programResult{s.code, s.stdout.String(), s.stderr.String()}, ExitFailure, "",
		"hubctl send: the connection to the hub at 127.0.0.1:"+relay+" is lost; the fate of the message is unknown\n")
}

func TestHubctlList_PrintsIDs(t *testing.T) {
	_, port := startServer(t)
	checkResult(t, runProgram(Hubctl, hubctlArgs(port, "list")...), ExitOK, "", "")
	var want string
	var ids []string
	for range 3 {
		id := formatID(dialVersion(t, port, 2).ID())
		ids = append(ids, id)
		want += id + "\n"
	}
	checkResult(t, runProgram(Hubctl, hubctlArgs(port, "list")...), ExitOK, want, "")
	got := runProgram(Hubctl, hubctlArgs(port, "list", "-json")...)
	var listed []string
	for _, o := range decodeLines[map[string]string](t, got.stdout) {
		listed = append(listed, o["id"])
	}
	if got.code != ExitOK || !slices.Equal(listed, ids) {
		t.Errorf("exit code %d, listed %v, want %v", got.code, listed, ids)
	}
}

func TestHubctlWatch_PrintsChanges(t *testing.T) {
	_, port := startServer(t)
	present := dialVersion(t, port, 2)
	w := startProgram(t, Hubctl, hubctlArgs(port, "watch")...)
	w.waitForLine(&w.stdout, "+ "+formatID(present.ID())+"\n")
	joined := dialVersion(t, port, 1)
	w.waitForLine(&w.stdout, "+ "+formatID(joined.ID())+"\n")
	present.Close()
	w.waitForLine(&w.stdout, "- "+formatID(present.ID())+"\n")
	got := w.interrupt()
	if got.code != ExitOK || strings.Count(got.stdout, "\n") != 3 {
		t.Errorf("exit code %d, stdout %q", got.code, got.stdout)
	}
	got = runProgram(Hubctl, hubctlArgs(port, "watch", "-n=1", "-json")...)
	objects := decodeLines[map[string]string](t, got.stdout)
	if got.code != ExitOK || len(objects) != 1 || objects[0]["change"] != "joined" || objects[0]["id"] != formatID(joined.ID()) {
		t.Errorf("exit code %d, printed %v", got.code, objects)
	}
}

// TestHubctlWatch_TooManyWatchers checks the error message of a watcher above -max-watchers.
func TestHubctlWatch_TooManyWatchers(t *testing.T) {
	_, port := startServer(t, "-max-watchers=1")
	w := startProgram(t, Hubctl, hubctlArgs(port, "watch")...)
	other := dialVersion(t, port, 1)
	w.waitForLine(&w.stdout, "+ "+formatID(other.ID())+"\n")
	got := runProgram(Hubctl, hubctlArgs(port, "watch")...)
	if got.code != ExitFailure || !strings.Contains(got.stderr, "has reached its maximum number of watchers") {
		t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
	}
	w.interrupt()
}

// TestHubctlWatch_RejectsMessages sends a message to hubctl watch, which does not receive
// messages.
func TestHubctlWatch_RejectsMessages(t *testing.T) {
	_, port := startServer(t)
	w := startProgram(t, Hubctl, hubctlArgs(port, "watch")...)
	_, id, _ := strings.Cut(w.waitForLine(&w.stderr, "connected"), " id=")
	id, _, _ = strings.Cut(id, " ")
	got := runProgram(Hubctl, hubctlArgs(port, "send", "-to="+id, "-level=processed", "hi")...)
	checkResult(t, got, ExitUndelivered, id+"  rejected\n", "0 of 1 receiver")
}

// TestView_Update moves a watcher to a hub that assigns the same ids to other clients.
func TestView_Update(t *testing.T) {
	v := view{present: make(map[uint64]bool), printed: make(map[uint64]bool)}
	steps := []struct {
		self         uint64
		joined, left []uint64
		want         string
	}{
		{self: 3, joined: []uint64{1, 2, 3}, want: "+ 1,+ 2"},
		{self: 3, joined: []uint64{2, 4}, left: []uint64{1}, want: "- 1,+ 4"},
		// Id 3 now belongs to another client.
		{self: 2, joined: []uint64{1}, left: []uint64{4}, want: "- 4,+ 1,+ 3,- 2"},
		{self: 2, left: []uint64{3}, want: "- 3"},
	}
	for _, step := range steps {
		var got []string
		for _, c := range v.update(client.Presence{Joined: step.joined, Left: step.left}, step.self) {
			got = append(got, c.String())
		}
		if text := strings.Join(got, ","); text != step.want {
			t.Errorf("printed %s, want %s", text, step.want)
		}
	}
}

func TestHubctlPing_PrintsRoundTrips(t *testing.T) {
	_, port := startServer(t)
	got := runProgram(Hubctl, hubctlArgs(port, "ping", "-n=3", "-interval=1ms")...)
	if lines := strings.Split(got.stdout, "\n"); got.code != ExitOK || len(lines) != 5 || !strings.HasPrefix(lines[3], "3 answers: min ") {
		t.Errorf("exit code %d, stdout %q, stderr %q", got.code, got.stdout, got.stderr)
	}
	got = runProgram(Hubctl, hubctlArgs(port, "ping", "-n=3", "-interval=1ms", "-json")...)
	objects := decodeLines[map[string]int](t, got.stdout)
	if got.code != ExitOK || len(objects) != 4 {
		t.Fatalf("exit code %d, printed %v", got.code, objects)
	}
	for i, o := range objects[:3] {
		if o["ping"] != i+1 || o["round_trip_ns"] <= 0 {
			t.Errorf("got %v", o)
		}
	}
	summary := objects[3]
	if summary["pings"] != 3 || summary["min_ns"] <= 0 || summary["max_ns"] < summary["median_ns"] || summary["median_ns"] == 0 {
		t.Errorf("got %v", summary)
	}
}

func TestHubctlPing_Ends(t *testing.T) {
	hub, port := startServer(t)
	p := startProgram(t, Hubctl, hubctlArgs(port, "ping", "-n=all", "-interval=1h")...)
	q := startProgram(t, Hubctl, hubctlArgs(port, "ping", "-n=all", "-interval=1ms")...)
	p.waitForLine(&p.stdout, "1  ")
	q.waitForLine(&q.stdout, "2  ")
	if got := p.interrupt(); got.code != ExitOK || !strings.Contains(got.stdout, "1 answer: ") {
		t.Errorf("interrupted: exit code %d, stdout %q", got.code, got.stdout)
	}
	hub.interrupt()
	<-q.done
	if q.code != ExitFailure || !strings.Contains(q.stdout.String(), " answer") || !strings.Contains(q.stderr.String(), "hubctl ping: the ") {
		t.Errorf("without a hub: exit code %d, stderr %q", q.code, &q.stderr)
	}
}

// startFakeServer starts a server on a free port that handles each connection with handle, and
// returns the port.
func startFakeServer(t *testing.T, handle func(net.Conn)) (port string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends when the listener is closed
		defer close(ended)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			handle(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-ended
	})
	_, port, err = net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// serveVersion1 acts as a version 1 hub: it assigns the id 7 to its client, lists the clients
// 3 and 9, and sends one message.
func serveVersion1(conn net.Conn) {
	for {
		var head [wire.HeaderSize]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head[:]))-1); err != nil {
			return
		}
		var reply []byte
		switch wire.Type(head[wire.LengthSize]) {
		case wire.TypeIdentity:
			reply = wire.AppendRelayDelivery(wire.AppendIdentity(nil, 7), []byte("hello"))
		case wire.TypeList:
			reply = wire.AppendList(nil, []uint64{3}, []uint64{9})
		}
		if _, err := conn.Write(reply); err != nil {
			return
		}
	}
}

func TestHubctl_Version1Hub(t *testing.T) {
	port := startFakeServer(t, serveVersion1)
	const needs = "speaks version 1 of the protocol, and "
	tests := []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{hubctlArgs(port, "list"), ExitOK, "3\n9\n", ""},
		{hubctlArgs(port, "listen", "-n=1"), ExitOK, "?  hello\n", "id=7 version=1"},
		{hubctlArgs(port, "listen", "-n=1", "-json"), ExitOK, `{"sender":"0","body":"hello"}` + "\n", "id=7"},
		{hubctlArgs(port, "send", "-to=3", "hi"), ExitFailure, "", needs + "fates need version 2; nothing was sent"},
		{hubctlArgs(port, "watch"), ExitFailure, "", needs + "this needs version 2"},
		{hubctlArgs(port, "ping"), ExitFailure, "", needs + "this needs version 2"},
	}
	for _, tt := range tests {
		t.Run(tt.args[0], func(t *testing.T) {
			checkResult(t, runProgram(Hubctl, tt.args...), tt.code, tt.stdout, tt.stderr)
		})
	}
}

func TestHubctl_NoHub(t *testing.T) {
	_, full := startServer(t, "-max-clients=1")
	dialVersion(t, full, 2)
	web := startFakeServer(t, func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		io.Copy(io.Discard, conn)
	})
	mute := startFakeServer(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	tests := []struct{ name, port, timeout, want string }{
		{"nobody", "1", "10s", "no hub at 127.0.0.1:1: connection refused; start one with start_server, or name another with -addr and -port"},
		{"full", full, "10s", "accepts no connections: too many clients"},
		{"another server", web, "10s", "does not speak the hub protocol"},
		{"silence", mute, "200ms", "the handshake got no answer for 200ms"},
	}
	for _, tt := range tests {
		for _, cmd := range []string{"listen", "send", "list", "watch", "ping"} {
			t.Run(tt.name+" "+cmd, func(t *testing.T) {
				args := hubctlArgs(tt.port, cmd, "-timeout="+tt.timeout)
				if cmd == "send" {
					args = append(args, "-to=1", "hi")
				}
				got := runProgram(Hubctl, args...)
				checkResult(t, got, ExitFailure, "", "hubctl "+cmd+": ")
				if !strings.Contains(got.stderr, tt.want) || strings.Count(got.stderr, "\n") != 1 {
					t.Errorf("printed %q, want one line with %q", got.stderr, tt.want)
				}
			})
		}
	}
}

func TestHubctl_InterruptedWhileConnecting(t *testing.T) {
	accepted := make(chan struct{})
	port := startFakeServer(t, func(conn net.Conn) {
		close(accepted)
		io.Copy(io.Discard, conn)
	})
	l := startProgram(t, Hubctl, hubctlArgs(port, "list")...)
	<-accepted
	checkResult(t, l.interrupt(), ExitFailure, "", "hubctl list: interrupted\n")
}

func TestHubctl_ErrorAsJSON(t *testing.T) {
	got := runProgram(Hubctl, hubctlArgs("1", "list", "-log=json")...)
	if o := decodeLines[map[string]string](t, got.stderr); len(o) != 1 || !strings.HasPrefix(o[0]["msg"], "no hub at ") {
		t.Errorf("printed %v", o)
	}
}

func TestHubctl_Settings(t *testing.T) {
	_, port := startServer(t)
	t.Setenv("HUBCTL_ADDR", "127.0.0.1")
	t.Setenv("HUBCTL_VERSION", "3") // of another program
	checkResult(t, runProgram(Hubctl, "list", "-config="+writeConfigFile(t, "port "+port)), ExitOK, "", "")
}

func TestHubctl_InvalidCommandLines(t *testing.T) {
	many := strings.Repeat("1,", wire.MaxReceivers) + "1"
	tests := []struct {
		args []string
		want string
	}{
		{nil, ": a subcommand is missing"},
		{[]string{"lsit"}, `: "lsit" is not a subcommand: the subcommands are listen, send, list, watch, ping, token, completion and help`},
		{[]string{"help", "lsit"}, `: "lsit" is not a subcommand: `},
		{[]string{"-port=1", "list"}, ": -port=1: the subcommand comes first, then its flags"},
		{[]string{"list", "all"}, ` list: "all" is not a flag`},
		{[]string{"list", "-to=1"}, " list: flag provided but not defined: -to"},
		{[]string{"list", "-port=0"}, " list: -port=0: allowed are whole numbers from 1 to 65535"},
		{[]string{"listen", "-n=0"}, " listen: -n=0: allowed are whole numbers from 1, and all"},
		{[]string{"ping", "-interval=0s"}, " ping: -interval=0s: allowed are times from 1ms to 1h"},
		{[]string{"send", "hi"}, " send: -to is missing: name the receivers, such as -to=2,3"},
		{[]string{"send", "-to=2,x", "hi"}, ` send: -to=2,x: "x" is not an id: allowed are 1 to 255 ids, in decimal and separated by commas`},
		{[]string{"send", "-to=2,", "hi"}, ` send: -to=2,: "" is not an id: `},
		{[]string{"send", "-to=-1", "hi"}, ` send: -to=-1: "-1" is not an id: `},
		{[]string{"send", "-to=18446744073709551616"}, ` send: -to=18446744073709551616: "18446744073709551616" is not an id: `},
		{[]string{"send", "-to=" + many}, " send: -to=" + many + ": the number of entries is 256: allowed are 1 to 255 ids"},
		{[]string{"send", "-to=2", "hello", "world"}, ` send: "world" is an extra argument: put a text with spaces in quotes`},
		{[]string{"send", "hi", "-to=2"}, ` send: "-to=2" follows "hi": flags come first`},
		{[]string{"send", "-to=2", "-file=x", "hi"}, " send: a text and -file=x exclude each other: remove one"},
		{[]string{"send", "-to=2", "-level=best"}, " send: -level=best: allowed are written, received and processed"},
		{[]string{"send", "-to=2", "-overload=cry"}, " send: -overload=cry: allowed are wait, fail and drop"},
		{[]string{"send", "-to=2", "-ttl=-1s"}, " send: -ttl=-1s: allowed are times from 0s"},
		{[]string{"completion"}, " completion: the shell is missing: choose bash or zsh"},
		{[]string{"completion", "fish"}, ` completion: there is no script for "fish": choose bash or zsh`},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			checkUsageError(t, runProgram(Hubctl, tt.args...), "hubctl"+tt.want)
		})
	}
}

func TestHubctl_Help(t *testing.T) {
	for _, arg := range []string{"help", "-h", "-help", "--help"} {
		got := runProgram(Hubctl, arg)
		for _, name := range subcommandNames() {
			if got.code != ExitOK || !strings.Contains(got.stdout, "  "+name+" ") {
				t.Errorf("%s: exit code %d, does not name %s", arg, got.code, name)
			}
		}
	}
	for _, name := range subcommandNames() {
		got, viaHelp := runProgram(Hubctl, name, "-h"), runProgram(Hubctl, "help", name)
		if got != viaHelp || got.code != ExitOK || !strings.Contains(got.stdout, "Usage: hubctl "+name+" [flags]") {
			t.Errorf("%s: got %+v and %+v", name, got, viaHelp)
		}
	}
	if got := runProgram(Hubctl, "send", "-h"); !strings.Contains(got.stdout, "[flags] [text]") || !strings.Contains(got.stdout, "4  no receiver got it") {
		t.Errorf("send -h prints\n%s", got.stdout)
	}
	if got := runProgram(Hubctl, "-version"); got.code != ExitOK || !strings.HasPrefix(got.stdout, "hubctl ") {
		t.Errorf("-version: got %+v", got)
	}
}

func TestHubctl_OutputFails(t *testing.T) {
	_, port := startServer(t)
	other := formatID(dialVersion(t, port, 1).ID())
	for _, args := range [][]string{
		hubctlArgs(port, "send", "-to="+other, "-level=written", "hi"), hubctlArgs(port, "list"), hubctlArgs(port, "watch"), hubctlArgs(port, "ping"), {"completion", "bash"},
	} {
		var stderr outputBuffer
		code := Hubctl(Process{Args: args, Stdout: brokenPipe{}, Stderr: &stderr})
		if code != ExitFailure || !strings.Contains(stderr.String(), "cannot print: broken pipe") {
			t.Errorf("%s: exit code %d, stderr %s", args[0], code, &stderr)
		}
	}
}

// TestHubctlListen_EndsWhenOutputCloses closes standard output, as "| head -1" does, and
// checks that no session stays at the hub.
func TestHubctlListen_EndsWhenOutputCloses(t *testing.T) {
	_, port := startServer(t, "-resume-window=1h")
	reader, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr outputBuffer
	code := make(chan int, 1)
	go func() { // ends when the second message cannot be printed
		code <- Hubctl(Process{Args: hubctlArgs(port, "listen"), Stdout: stdout, Stderr: &stderr})
	}()
	l := &runningProgram{t: t, done: make(chan struct{})}
	_, id, _ := strings.Cut(l.waitForLine(&stderr, "connected"), " id=")
	id, _, _ = strings.Cut(id, " ")
	for _, text := range []string{"first", "second"} {
		if got := runProgram(Hubctl, hubctlArgs(port, "send", "-to="+id, "-level=received", text)...); got.code != ExitOK && text == "first" {
			t.Fatalf("%+v", got)
		}
		if text == "first" {
			if _, err := reader.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			reader.Close()
		}
	}
	if c := <-code; c != ExitFailure || !strings.Contains(stderr.String(), "broken pipe") {
		t.Errorf("exit code %d, stderr %s", c, &stderr)
	}
	if got := runProgram(Hubctl, hubctlArgs(port, "list")...); got.stdout != "" {
		t.Errorf("still listed: %s", got.stdout)
	}
}
