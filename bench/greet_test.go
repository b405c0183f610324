package main

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// dialTest connects to a server until the end of the test.
func dialTest(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestGreet_Hub(t *testing.T) {
	addr := startTestHub(t)
	c := dialTest(t, addr)
	for range 2 { // a client can ask repeatedly
		if err := greetHub(c); err != nil {
			t.Error(err)
		}
	}
	c = dialTest(t, addr)
	if err := greetVersion2(c); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := pingVersion2(c); err != nil {
			t.Error(err)
		}
	}
}

// scriptedServer returns a connection to a server that writes first, reads a request and answers
// reply.
func scriptedServer(t *testing.T, first, request, reply string) net.Conn {
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close(); server.Close() })
	go func() { // ends with the pipe
		if first != "" { // a pipe waits for a reader even of nothing
			_, _ = io.WriteString(server, first)
		}
		got := make([]byte, len(request))
		if _, err := io.ReadFull(server, got); err == nil && string(got) == request {
			_, _ = io.WriteString(server, reply)
		}
		server.Close()
	}()
	return client
}

func TestGreet_OtherSystems(t *testing.T) {
	const connect = "CONNECT {\"verbose\":false}\r\nPING\r\n"
	const mqttConnect = "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"
	for _, test := range []struct {
		name, system          string
		first, request, reply string
		problem               string // "" for none
	}{
		{"nats", "nats", "INFO {}\r\n", connect, "PONG\r\n", ""},
		{"nats refuses", "nats", "INFO {}\r\n", connect, "-ERR \r\n", "-ERR"},
		{"not nats", "nats", "+OK\r\n", "", "", "first"},
		{"redis", "redis", "", "PING\r\n", "+PONG\r\n", ""},
		{"redis refuses", "redis", "", "PING\r\n", "-NOAUTH", "-NOAUTH"},
		{"mosquitto", "mosquitto", "", mqttConnect, "\x20\x02\x00\x00", ""},
		{"mosquitto refuses", "mosquitto", "", mqttConnect, "\x20\x02\x00\x05", `\x05`},
	} {
		err := greetFuncs[test.system](scriptedServer(t, test.first, test.request, test.reply))
		if test.problem == "" && err != nil || test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.problem)
		}
	}
}

func TestReadUntil(t *testing.T) {
	pong, goAway := wire.AppendPong(nil, 1), wire.AppendGoAway(nil, &wire.GoAway{})
	for _, test := range []struct {
		name   string
		frames []byte
		found  bool
	}{
		{"after another frame", append(wire.AppendPing(nil, 1), pong...), true},
		{"after GOAWAY", append(goAway, pong...), false},
		{"the connection ends", wire.AppendPing(nil, 1), false},
		{"a frame of 1 MiB", []byte{0, 16, 0, 0, 1}, false},
	} {
		err := readUntil(scriptedServer(t, string(test.frames), "", ""), wire.TypePong)
		if (err == nil) != test.found {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
