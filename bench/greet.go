package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// greetFuncs are what a client of each system says first, on a plain socket, until
// it sees that it was answered.
var greetFuncs = map[string]func(net.Conn) error{
	"hub": greetHub, "nats": greetNATS, "redis": greetRedis, "mosquitto": greetMQTT,
}

// exchange writes a question and reads an answer of a known size.
func exchange(c net.Conn, request []byte, size int) ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(waitTimeout)); err != nil {
		return nil, err
	}
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	reply := make([]byte, size)
	_, err := io.ReadFull(c, reply)
	return reply, err
}

// expect is exchange where the answer is known as well.
func expect(c net.Conn, request, want string) error {
	reply, err := exchange(c, []byte(request), len(want))
	if err == nil && string(reply) != want {
		err = fmt.Errorf("answer %q, want %q", reply, want)
	}
	return err
}

// greetHub asks for the id, which the hub does not mind to be asked for again.
func greetHub(c net.Conn) error {
	_, err := exchange(c, wire.AppendIdentityRequest(nil), wire.IdentityLen)
	return err
}

// greetVersion2 says HELLO as package client does, and TAKEN when it has its WELCOME.
func greetVersion2(c net.Conn) error {
	if err := writeFrame(c, wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Confirms: true, Skip: true})); err != nil {
		return err
	}
	if err := readUntil(c, wire.TypeWelcome); err != nil {
		return err
	}
	return writeFrame(c, wire.AppendAck(nil, 0))
}

// pingVersion2 asks the hub for a sign of life.
func pingVersion2(c net.Conn) error {
	if err := writeFrame(c, wire.AppendPing(nil, 1)); err != nil {
		return err
	}
	return readUntil(c, wire.TypePong)
}

// writeFrame writes a frame. What is done next on the connection has patience from now on.
func writeFrame(c net.Conn, frame []byte) error {
	if err := c.SetDeadline(time.Now().Add(waitTimeout)); err != nil {
		return err
	}
	_, err := c.Write(frame)
	return err
}

// readUntil reads frames up to the first of a type.
func readUntil(c net.Conn, want wire.Type) error {
	for {
		header := make([]byte, wire.HeaderSize)
		if _, err := io.ReadFull(c, header); err != nil {
			return err
		}
		size, err := wire.Size(header, maxGreeting)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, c, int64(size-len(header))); err != nil {
			return err
		}
		switch got, _ := wire.Split(header); got {
		case want:
			return nil
		case wire.TypeGoAway:
			return errors.New("the hub says GOAWAY")
		}
	}
}

// maxGreeting is the largest frame with which a hub answers a greeting, in bytes.
const maxGreeting = 4096

func greetRedis(c net.Conn) error { return expect(c, "PING\r\n", "+PONG\r\n") }

// greetNATS reads what the server says first, one line that begins with INFO, and
// connects. The answer to the PING says that the server has taken the CONNECT.
func greetNATS(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(waitTimeout)); err != nil {
		return err
	}
	info := make([]byte, 4096) // the line is below 1 KiBPerConn, and alone until it is answered
	n, err := c.Read(info)
	if err != nil {
		return err
	}
	if line := string(info[:n]); !strings.HasPrefix(line, "INFO ") || !strings.HasSuffix(line, "\r\n") {
		return fmt.Errorf("the server begins with %q", line)
	}
	return expect(c, "CONNECT {\"verbose\":false}\r\nPING\r\n", "PONG\r\n")
}

// greetMQTT sends a CONNECT of protocol version 4 (3.1.1).
func greetMQTT(c net.Conn) error {
	const connect = "\x10\x0c" + // CONNECT, of which 12 bytes follow
		"\x00\x04MQTT\x04" +
		"\x02" + // a session that ends with the connection
		"\x00\x00" + // no time after which silence is an error
		"\x00\x00" // no id: the broker makes one
	const accepted = "\x20\x02\x00\x00"
	return expect(c, connect, accepted)
}
