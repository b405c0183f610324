package hubctl

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/wire"
)

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
	_, acking := programtest.StartListen(t, Run, port)
	unacking, version1 := formatID(dialUnacking(t, port).ID()), formatID(programtest.DialVersion(t, port, 1).ID())
	const nobody = "18446744073709551615"
	tests := []struct {
		to, level string
		code      int
		want      string // fates, separated by spaces
	}{
		{acking, "written", command.ExitOK, "written"},
		{acking, "received", command.ExitOK, "received"},
		{acking, "processed", command.ExitOK, "processed"},
		{unacking, "received", command.ExitOK, "received"},
		{version1, "written", command.ExitOK, "written"},
		{version1, "received", ExitUndelivered, "written"},
		{version1, "processed", ExitUndelivered, "written"},
		{nobody, "written", ExitUndelivered, "unknown"},
		{acking + "," + nobody, "received", ExitPartial, "received unknown"},
		{acking + "," + version1, "received", ExitPartial, "received written"},
		{acking + "," + acking, "received", command.ExitOK, "received received"},
		{acking + "," + unacking + "," + nobody, "processed", ExitPartial, "processed received unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.level+" "+tt.to, func(t *testing.T) {
			args := programtest.HubctlArgs(port, "send", "-to="+tt.to, "-level="+tt.level, "-ttl=1s", "hi")
			fates := strings.Fields(tt.want)
			message := ""
			if tt.code != command.ExitOK {
				message = " reached -level=" + tt.level
			}
			programtest.CheckResult(t, programtest.Run(Run, args...), tt.code, formatFates(tt.to, fates), message)
			checkFatesAsJSON(t, tt.to, fates, programtest.Run(Run, slices.Insert(args, 1, "-json")...), tt.code)
		})
	}
}

func formatFates(to string, fates []string) string {
	var text strings.Builder
	for i, id := range strings.Split(to, ",") {
		text.WriteString(id + "  " + fates[i] + "\n")
	}
	return text.String()
}

func checkFatesAsJSON(t *testing.T, to string, fates []string, got programtest.Result, code int) {
	t.Helper()
	objects := programtest.DecodeLines[struct {
		Receiver, Fate string
		Reached        *bool
	}](t, got.Stdout)
	if got.Code != code || len(objects) != len(fates) {
		t.Fatalf("exit code %d, want %d: %+v", got.Code, code, objects)
	}
	reached := 0
	for i, id := range strings.Split(to, ",") {
		if o := objects[i]; o.Receiver != id || o.Fate != fates[i] || o.Reached == nil {
			t.Errorf("got %+v, want %s %s", o, id, fates[i])
		} else if *o.Reached {
			reached++
		}
	}
	if want := map[int]bool{command.ExitOK: reached == len(fates), ExitUndelivered: reached == 0, ExitPartial: reached > 0 && reached < len(fates)}; !want[code] {
		t.Errorf("%d of %d reached, and exit code %d", reached, len(fates), code)
	}
}

func TestHubctlSend_MessageSources(t *testing.T) {
	_, port := startServer(t)
	receiver := programtest.DialVersion(t, port, 2)
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
			args := programtest.HubctlArgs(port, "send", append([]string{"-level=written", "-to=" + formatID(receiver.ID())}, tt.args...)...)
			if got := programtest.RunWithStdin(Run, "from a pipe", args...); got.Code != command.ExitOK {
				t.Fatalf("exit code %d: %s", got.Code, got.Stderr)
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
			got := programtest.RunWithStdin(Run, tt.stdin, programtest.HubctlArgs(port, "send", append([]string{"-to=1"}, tt.args...)...)...)
			programtest.CheckResult(t, got, command.ExitFailure, "", "hubctl send: "+tt.want)
		})
	}
}

// startUnackedSend starts a send to a receiver that never sends a verdict. It returns when the
// receiver has the message.
func startUnackedSend(t *testing.T, port string, args ...string) *programtest.Running {
	t.Helper()
	receiver := programtest.DialVersion(t, port, 2)
	s := programtest.Start(t, Run, programtest.HubctlArgs(port, "send", append(args, "-to="+formatID(receiver.ID()), "-level=processed", "hi")...)...)
	if _, err := receiver.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHubctlSend_Interrupted(t *testing.T) {
	_, port := startServer(t)
	got := startUnackedSend(t, port).Interrupt()
	programtest.CheckResult(t, got, command.ExitFailure, "", "hubctl send: interrupted before the hub reported; the fate of the message is unknown\n")
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
	var stdout, stderr programtest.Output
	code := Run(command.Process{Args: []string{"send", "-to=1"}, Stdin: in, Stdout: &stdout, Stderr: &stderr, Signals: signals})
	programtest.CheckResult(t, programtest.Result{Code: code, Stdout: stdout.String(), Stderr: stderr.String()}, command.ExitFailure, "", "hubctl send: interrupted before the message was read; nothing was sent\n")
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
	<-s.Done
	programtest.CheckResult(t, programtest.Result{Code: s.Code, Stdout: s.Stdout.String(), Stderr: s.Stderr.String()}, command.ExitFailure, "", "no report for 1s; the fate of the message is unknown")
}

// TestHubctlSend_ReportBeforeTimeout checks that hubctl gets the known fates if the receiver
// takes longer than -timeout.
func TestHubctlSend_ReportBeforeTimeout(t *testing.T) {
	_, port := startServer(t)
	s := startUnackedSend(t, port, "-timeout=5s")
	<-s.Done
	if !strings.HasSuffix(s.Stdout.String(), "  received\n") || s.Code != ExitUndelivered {
		t.Errorf("exit code %d, stdout %q, stderr %q", s.Code, &s.Stdout, &s.Stderr)
	}
}

// TestHubctlSend_TimeoutReachesHub sends to a receiver that takes longer than the report
// timeout of the hub, but less than -timeout.
func TestHubctlSend_TimeoutReachesHub(t *testing.T) {
	_, port := startServer(t, "-report-timeout=50ms")
	receiver := programtest.DialVersion(t, port, 2)
	id := formatID(receiver.ID())
	s := programtest.Start(t, Run, programtest.HubctlArgs(port, "send", "-to="+id, "-level=processed", "-timeout=5m", "task")...)
	m, err := receiver.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The report timeout of a message that was sent later ends later.
	r, err := programtest.DialVersion(t, port, 2).SendReport(t.Context(), []uint64{receiver.ID()}, nil, &client.SendOptions{Level: wire.LevelProcessed})
	if err != nil || r.Reached(wire.LevelProcessed) > 0 {
		t.Fatalf("report %+v, %v, want one that has timed out", r, err)
	}
	m.Ack()
	<-s.Done
	programtest.CheckResult(t, programtest.Result{Code: s.Code, Stdout: s.Stdout.String(), Stderr: s.Stderr.String()}, command.ExitOK, id+"  processed\n", "")
}

// TestHubctlSend_TimeoutAboveHubMaximum checks that nothing is sent if -timeout exceeds
// -max-report-timeout of the hub.
func TestHubctlSend_TimeoutAboveHubMaximum(t *testing.T) {
	_, port := startServer(t, "-report-timeout=1s", "-max-report-timeout=1m")
	receiver := dialUnacking(t, port)
	got := programtest.Run(Run, programtest.HubctlArgs(port, "send", "-to="+formatID(receiver.ID()), "-timeout=2h", "task")...)
	programtest.CheckResult(t, got, command.ExitFailure, "", "reports after at most 1m (its -max-report-timeout), but 1h59m50s was requested; nothing was sent")
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
	<-s.Done
	programtest.CheckResult(t, programtest.Result{Code: s.Code, Stdout: s.Stdout.String(), Stderr: s.Stderr.String()}, command.ExitFailure, "",
		"hubctl send: the connection to the hub at 127.0.0.1:"+relay+" is lost; the fate of the message is unknown\n")
}

func TestHubReportTimeout_IsDefaultOfHub(t *testing.T) {
	if hubReportTimeout != hub.DefaultReportTimeout {
		t.Errorf("%v, want %v", hubReportTimeout, hub.DefaultReportTimeout)
	}
}
