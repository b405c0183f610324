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

// greetFuncs are, by system, the first exchange of a client on a plain socket. Each function
// returns when the server has replied.
var greetFuncs = map[string]func(net.Conn) error{
	"hub": greetHub, "nats": greetNATS, "redis": greetRedis, "mosquitto": greetMQTT,
}

// exchange writes a request and reads a reply of a known size.
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

// expect writes a request and checks that the reply is want.
func expect(c net.Conn, request, want string) error {
	reply, err := exchange(c, []byte(request), len(want))
	if err == nil && string(reply) != want {
		err = fmt.Errorf("reply %q, want %q", reply, want)
	}
	return err
}

// greetHub requests the id. A client can do that repeatedly.
func greetHub(c net.Conn) error {
	_, err := exchange(c, wire.AppendIdentityRequest(nil), wire.IdentityLen)
	return err
}

// greetVersion2 sends HELLO as package client does, and ACK after its WELCOME.
func greetVersion2(c net.Conn) error {
	if err := writeFrame(c, wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Confirms: true, Skip: true})); err != nil {
		return err
	}
	if err := readUntil(c, wire.TypeWelcome); err != nil {
		return err
	}
	return writeFrame(c, wire.AppendAck(nil, 0))
}

// pingVersion2 sends PING and waits for the PONG.
func pingVersion2(c net.Conn) error {
	if err := writeFrame(c, wire.AppendPing(nil, 1)); err != nil {
		return err
	}
	return readUntil(c, wire.TypePong)
}

// messagesVersion2 sends messages of 100 bytes to the client itself, one after the other, reads
// them, and acknowledges all of them at the end.
func messagesVersion2(c net.Conn) error {
	const messages = 5
	if err := writeFrame(c, wire.AppendIdentityRequest(nil)); err != nil {
		return err
	}
	payload, err := readPayload(c, wire.TypeIdentity)
	if err != nil {
		return err
	}
	id, err := wire.ParseIdentity(payload)
	if err != nil {
		return err
	}
	for seq := range uint64(messages) {
		if err := writeFrame(c, wire.AppendSend(nil, seq+1, 0, 0, []uint64{id}, make([]byte, 100))); err != nil {
			return err
		}
		if err := readUntil(c, wire.TypeDeliver); err != nil {
			return err
		}
	}
	return writeFrame(c, wire.AppendAck(nil, messages))
}

// writeFrame writes a frame. It also sets the deadline for the following operation on the
// connection.
func writeFrame(c net.Conn, frame []byte) error {
	if err := c.SetDeadline(time.Now().Add(waitTimeout)); err != nil {
		return err
	}
	_, err := c.Write(frame)
	return err
}

// readUntil reads frames until the first frame of a type.
func readUntil(c net.Conn, want wire.Type) error {
	_, err := readPayload(c, want)
	return err
}

// readPayload reads frames until the first frame of a type, and returns its payload.
func readPayload(c net.Conn, want wire.Type) ([]byte, error) {
	for {
		header := make([]byte, wire.HeaderSize)
		if _, err := io.ReadFull(c, header); err != nil {
			return nil, err
		}
		size, err := wire.Size(header, maxGreeting)
		if err != nil {
			return nil, err
		}
		payload := make([]byte, size-len(header))
		if _, err := io.ReadFull(c, payload); err != nil {
			return nil, err
		}
		switch got, _ := wire.Split(header); got {
		case want:
			return payload, nil
		case wire.TypeGoAway:
			return nil, errors.New("hub sent GOAWAY")
		}
	}
}

// maxGreeting is the maximum size of the frames that a hub sends in reply to a greeting, in
// bytes.
const maxGreeting = 4096

func greetRedis(c net.Conn) error { return expect(c, "PING\r\n", "+PONG\r\n") }

// greetNATS reads the INFO line that the server sends first, and connects. The reply to the
// PING shows that the server has accepted the CONNECT.
func greetNATS(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(waitTimeout)); err != nil {
		return err
	}
	info := make([]byte, 4096) // the line is below 1 KiB, and nothing follows before the reply
	n, err := c.Read(info)
	if err != nil {
		return err
	}
	if line := string(info[:n]); !strings.HasPrefix(line, "INFO ") || !strings.HasSuffix(line, "\r\n") {
		return fmt.Errorf("the server sent %q first", line)
	}
	return expect(c, "CONNECT {\"verbose\":false}\r\nPING\r\n", "PONG\r\n")
}

// greetMQTT sends a CONNECT of protocol version 4 (3.1.1).
func greetMQTT(c net.Conn) error {
	const connect = "\x10\x0c" + // CONNECT, 12 bytes follow
		"\x00\x04MQTT\x04" +
		"\x02" + // clean session
		"\x00\x00" + // no keep-alive
		"\x00\x00" // no client id: the broker chooses one
	const accepted = "\x20\x02\x00\x00"
	return expect(c, connect, accepted)
}

// greetChat reads the first message of the chat server.
func greetChat(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(waitTimeout)); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, len("joined")))
	return err
}
