package cluster

import (
	"bytes"
	"testing"
	"time"
)

func TestFramePrefix_RoundTrip(t *testing.T) {
	frame := append(appendFramePrefix(nil, frameLink, MaxNode), "rest"...)
	kind, from, rest, ok := parseFramePrefix(frame)
	if kind != frameLink || from != MaxNode || string(rest) != "rest" || !ok {
		t.Errorf("kind %d from %d with %q (%v)", kind, from, rest, ok)
	}
	for n := range framePrefixSize {
		if _, _, _, ok := parseFramePrefix(frame[:n]); ok {
			t.Errorf("a frame of %d bytes is accepted", n)
		}
	}
	for name, frame := range map[string][]byte{
		"no node":        appendFramePrefix(nil, frameLink, 0),
		"node too large": appendFramePrefix(nil, frameLink, MaxNode+1),
		"other version":  append([]byte{frameVersion + 1}, frame[1:]...),
	} {
		if _, _, _, ok := parseFramePrefix(frame); ok {
			t.Errorf("%s: the frame is accepted", name)
		}
	}
}

// TestHeartbeat_RoundTrip also changes each byte, and cuts the frame at each place: nothing of that
// is authentic.
func TestHeartbeat_RoundTrip(t *testing.T) {
	want := heartbeat{
		MinVersion: 1, MaxVersion: 2, Name: "two", Instance: "i", Address: "a", Software: "s",
		Started: time.Now().Unix(), Now: time.Now().UnixMicro(), Clients: 3, Revision: 1 << 63, Window: 4,
	}
	frame := encodeHeartbeat(frameHeartbeat, 2, testKey, &want)
	if got, authentic, err := parseHeartbeat(frame, testKey); got != want || !authentic || err != nil {
		t.Errorf("%+v, %v, %v", got, authentic, err)
	}
	if _, authentic, err := parseHeartbeat(frame, []byte("other")); authentic || err != nil {
		t.Errorf("with another key: %v, %v", authentic, err)
	}
	for i := range frame {
		changed := bytes.Clone(frame)
		changed[i] ^= 1
		if _, authentic, _ := parseHeartbeat(changed, testKey); authentic {
			t.Errorf("byte %d can be changed", i)
		}
		if _, authentic, _ := parseHeartbeat(frame[:i], testKey); authentic {
			t.Errorf("the first %d bytes are authentic", i)
		}
	}
}

// TestHeartbeat_Nonsense sends bytes with a right code that are no heartbeat.
func TestHeartbeat_Nonsense(t *testing.T) {
	for _, text := range []string{"", "{", "[]", `{"min":"x"}`} {
		frame := append(appendFramePrefix(nil, frameHeartbeat, 2), text...)
		frame = append(frame, code(testKey, frame)...)
		if _, authentic, err := parseHeartbeat(frame, testKey); !authentic || err == nil {
			t.Errorf("%q: %v, %v, want an error", text, authentic, err)
		}
	}
}

// TestHeartbeat_LaterVersion has fields that this hub does not know.
func TestHeartbeat_LaterVersion(t *testing.T) {
	frame := append(appendFramePrefix(nil, frameHeartbeat, 2), `{"min":1,"max":9,"name":"two","later":{"field":[1]}}`...)
	frame = append(frame, code(testKey, frame)...)
	if h, authentic, err := parseHeartbeat(frame, testKey); h.Name != "two" || h.MaxVersion != 9 || !authentic || err != nil {
		t.Errorf("%+v, %v, %v", h, authentic, err)
	}
}
