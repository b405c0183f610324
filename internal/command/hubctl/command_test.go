package hubctl

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/wire"
)

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
		{programtest.HubctlArgs(port, "list"), command.ExitOK, "3\n9\n", ""},
		{programtest.HubctlArgs(port, "listen", "-n=1"), command.ExitOK, "?  hello\n", "id=7 version=1"},
		{programtest.HubctlArgs(port, "listen", "-n=1", "-json"), command.ExitOK, `{"sender":"0","body":"hello"}` + "\n", "id=7"},
		{programtest.HubctlArgs(port, "send", "-to=3", "hi"), command.ExitFailure, "", needs + "fates need version 2; nothing was sent"},
		{programtest.HubctlArgs(port, "watch"), command.ExitFailure, "", needs + "this needs version 2"},
		{programtest.HubctlArgs(port, "ping"), command.ExitFailure, "", needs + "this needs version 2"},
	}
	for _, tt := range tests {
		t.Run(tt.args[0], func(t *testing.T) {
			programtest.CheckResult(t, programtest.Run(Run, tt.args...), tt.code, tt.stdout, tt.stderr)
		})
	}
}

func TestHubctl_NoHub(t *testing.T) {
	_, full := startServer(t, "-max-clients=1")
	programtest.DialVersion(t, full, 2)
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
				args := programtest.HubctlArgs(tt.port, cmd, "-timeout="+tt.timeout)
				if cmd == "send" {
					args = append(args, "-to=1", "hi")
				}
				got := programtest.Run(Run, args...)
				programtest.CheckResult(t, got, command.ExitFailure, "", "hubctl "+cmd+": ")
				if !strings.Contains(got.Stderr, tt.want) || strings.Count(got.Stderr, "\n") != 1 {
					t.Errorf("printed %q, want one line with %q", got.Stderr, tt.want)
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
	l := programtest.Start(t, Run, programtest.HubctlArgs(port, "list")...)
	<-accepted
	programtest.CheckResult(t, l.Interrupt(), command.ExitFailure, "", "hubctl list: interrupted\n")
}

func TestHubctl_ErrorAsJSON(t *testing.T) {
	got := programtest.Run(Run, programtest.HubctlArgs("1", "list", "-log=json")...)
	if o := programtest.DecodeLines[map[string]string](t, got.Stderr); len(o) != 1 || !strings.HasPrefix(o[0]["msg"], "no hub at ") {
		t.Errorf("printed %v", o)
	}
}

func TestHubctl_Settings(t *testing.T) {
	_, port := startServer(t)
	t.Setenv("HUBCTL_ADDR", "127.0.0.1")
	t.Setenv("HUBCTL_VERSION", "3") // of another program
	programtest.CheckResult(t, programtest.Run(Run, "list", "-config="+programtest.WriteConfigFile(t, "port "+port)), command.ExitOK, "", "")
}

// TestHubctl_SeveralAddresses ends the hub of a client, which then connects to the other one.
func TestHubctl_SeveralAddresses(t *testing.T) {
	got := programtest.Run(Run, "list", "-addr=127.0.0.1:1,localhost:2", "-timeout=5s")
	for _, want := range []string{
		"hubctl list: no hub of these accepts the connection:\n",
		"\n  no hub at 127.0.0.1:1: connection refused; start one",
		"\n  no hub at localhost:2: connection refused; start one",
	} {
		if got.Code != command.ExitFailure || !strings.Contains(got.Stderr, want) {
			t.Errorf("exit code %d, %q, want %q", got.Code, got.Stderr, want)
		}
	}
	hubs := make(map[string]*programtest.Running)
	var addrs []string
	for range 2 {
		s, port := startServer(t)
		addrs = append(addrs, "127.0.0.1:"+port)
		hubs["127.0.0.1:"+port] = s
	}
	l := programtest.Start(t, Run, "listen", "-addr="+strings.Join(addrs, ","))
	line := l.WaitForLine(&l.Stderr, "connected")
	for addr, s := range hubs {
		if strings.Contains(line, "hub="+addr+" ") {
			delete(hubs, addr)
			s.Interrupt()
		}
	}
	line = l.WaitForLine(&l.Stderr, "new id")
	for addr := range hubs {
		if len(hubs) != 1 || !strings.Contains(line, "hub="+addr) {
			t.Errorf("%q does not name %s", line, addr)
		}
	}
	if got := l.Interrupt(); got.Code != command.ExitOK {
		t.Errorf("exit code %d, %s", got.Code, got.Stderr)
	}
}
