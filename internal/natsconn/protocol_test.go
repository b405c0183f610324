package natsconn

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"
)

const testMaxPayload = 1000

// operations are operations that a server sends, each with what parse makes of it.
var operations = map[string]operation{
	"INFO {\"a\":1}\r\n":              {kind: kindInfo, text: []byte(`{"a":1}`)},
	"INFO \r\n":                       {kind: kindInfo, text: []byte{}},
	"PING\r\n":                        {kind: kindPing},
	"PONG\r\n":                        {kind: kindPong},
	"+OK\r\n":                         {kind: kindOK},
	"-ERR 'Stale Connection'\r\n":     {kind: kindError, text: []byte("Stale Connection")},
	"-ERR\r\n":                        {kind: kindError},
	"MSG hub.a.all 1 0\r\n\r\n":       {kind: kindFrame, payload: []byte{}},
	"MSG hub.a.all 1 3\r\n\r\n\r\r\n": {kind: kindFrame, payload: []byte("\r\n\r")},
	"MSG hub.a.to.7 1 reply.to 5\r\nhello\r\n":     {kind: kindFrame, payload: []byte("hello")},
	"HMSG a 1 12 13\r\nNATS/1.0\r\n\r\nx\r\n":      {kind: kindSkipped},
	"HMSG a 1 r 12 12\r\nNATS/1.0\r\n\r\n\r\n":     {kind: kindSkipped},
	"MSG a 1 1001\r\n" + pad("x", 1001) + "\r\n":   {kind: kindSkipped},
	"MSG a 1 1000\r\n" + pad("x", 1000) + "\r\n":   {kind: kindFrame, payload: []byte(pad("x", 1000))},
	"INFO " + pad("x", maxInfo-7) + "\r\n":         {kind: kindInfo, text: []byte(pad("x", maxInfo-7))},
	"MSG " + pad("a", maxLine-10) + " 1 0\r\n\r\n": {kind: kindFrame, payload: []byte{}},
}

func pad(s string, n int) string { return strings.Repeat(s, n) }

func TestParse_Operations(t *testing.T) {
	for text, want := range operations {
		op, size, err := parse([]byte(text+"PING\r\n"), testMaxPayload)
		if op.kind != want.kind || !bytes.Equal(op.text, want.text) || !bytes.Equal(op.payload, want.payload) || size != len(text) || err != nil {
			t.Errorf("%.40q: %d, %.40q, %.40q, %d bytes of %d; %v", text, op.kind, op.text, op.payload, size, len(text), err)
		}
	}
}

// TestParse_Truncated checks that no part of an operation is an error, or complete.
func TestParse_Truncated(t *testing.T) {
	for text, want := range operations {
		if len(text) > 2*testMaxPayload {
			continue // 64 KiB of one letter
		}
		for n := range len(text) {
			op, size, err := parse([]byte(text[:n]), testMaxPayload)
			if err != nil || size != 0 && size != len(text) || size == 0 && op.kind != kindNone || size != 0 && op.kind != want.kind {
				t.Errorf("%d bytes of %.40q: %d, %d bytes, %v", n, text, op.kind, size, err)
			}
		}
	}
}

func TestParse_Nonsense(t *testing.T) {
	for _, text := range []string{
		"\n", "\r\n", "PING\n", "PINGx\n", "ping\r\n", "PUB a 1\r\n", " PING\r\n", "MSG\r\n", "MSG a 1\r\n", "MSG a 1 r x 1\r\n", "MSG a 1 \r\n", "MSG a 1 -1\r\n",
		"MSG a 1 1x\r\n", "MSG a 1 67108865\r\n", "MSG a 1 99999999999999999999\r\n", "HMSG a 1 1\r\n", "HMSG a 1 r x 1 1\r\n",
		"MSG a 1 1\r\nxx\r\n", "MSG a 1 1\r\nx\r\r", pad("x", maxLine), "MSG " + pad("a", maxLine), "INFO " + pad("x", maxInfo),
	} {
		if op, size, err := parse([]byte(text), testMaxPayload); !errors.Is(err, errProtocol) || len(err.Error()) > 200 {
			t.Errorf("%.40q: %d, %d bytes, %.300v", text, op.kind, size, err)
		}
	}
}

func TestAppendPub(t *testing.T) {
	if got := string(appendPub([]byte("x"), []byte("hub.a.all"), 0)); got != "xPUB hub.a.all 0\r\n" {
		t.Errorf("%q", got)
	}
}

// TestAppendPub_FillsReadOfServer checks that the largest frame of a hub, whatever its subject, is
// as large as a read of nats-server.
func TestAppendPub_FillsReadOfServer(t *testing.T) {
	const maxFrame = 64<<10 - 128 // cluster.MaxFrame
	for _, subject := range []string{"hub.a.all", "hub." + pad("n", 64) + ".to.4194303"} {
		line := string(appendPub(nil, []byte(subject), maxFrame))
		if size := len(line) + maxFrame + len(crlf); size != readSize {
			t.Errorf("%s: %d bytes", subject, size)
		}
		if fields := strings.Fields(line); len(fields) != 3 || fields[1] != subject || fields[2] != strconv.Itoa(maxFrame) {
			t.Errorf("%q", line)
		}
		if line := appendPub(nil, []byte(subject), maxFrame-128); bytes.Contains(line, []byte("  ")) {
			t.Errorf("%q", line)
		}
		if line := appendPub(nil, []byte(subject), readSize); bytes.Contains(line, []byte("  ")) {
			t.Errorf("%q", line)
		}
	}
}

func TestAppendProbe(t *testing.T) {
	if got := string(appendProbe(appendSub(nil, "a", 7), "b")); got != "SUB a 7\r\nHPUB b 25 25\r\nNATS/1.0\r\nHub-Probe: \r\n\r\n\r\n" {
		t.Errorf("%q", got)
	}
}
