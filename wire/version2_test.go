package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// roundTrips has for each frame type of version 2 a function that parses a payload and
// rebuilds the frame from the result.
var roundTrips = map[wire.Type]func(payload []byte) ([]byte, error){
	wire.TypeHello: func(p []byte) ([]byte, error) {
		h, err := wire.ParseHello(p)
		return wire.AppendHello(nil, &h), err
	},
	wire.TypeWelcome: func(p []byte) ([]byte, error) {
		w, err := wire.ParseWelcome(p)
		return wire.AppendWelcome(nil, &w), err
	},
	wire.TypeGoAway: func(p []byte) ([]byte, error) {
		g, err := wire.ParseGoAway(p)
		return wire.AppendGoAway(nil, &g), err
	},
	wire.TypeSend: func(p []byte) ([]byte, error) {
		s, err := wire.ParseSend(p)
		return wire.AppendSend(nil, s.Seq, s.Options, s.TTL, s.To.AppendTo(nil), s.Body), err
	},
	wire.TypeDeliver: func(p []byte) ([]byte, error) {
		d, err := wire.ParseDeliver(p)
		return wire.AppendDeliver(nil, &d), err
	},
	wire.TypeReport: func(p []byte) ([]byte, error) {
		r, err := wire.ParseReport(p)
		return wire.AppendReport(nil, r.Seq, r.Fates), err
	},
	wire.TypeVerdict: func(p []byte) ([]byte, error) {
		acks, err := wire.ParseVerdicts(p)
		if err != nil {
			return nil, err
		}
		return wire.AppendVerdicts(nil, slices.Collect(acks)), nil
	},
	wire.TypeListRange: func(p []byte) ([]byte, error) {
		r, err := wire.ParseListRange(p)
		return wire.AppendListRange(nil, r), err
	},
	wire.TypeListPage: func(p []byte) ([]byte, error) {
		l, err := wire.ParseListPage(p)
		return wire.AppendListPage(nil, l.Total, l.More, l.IDs.AppendTo(nil)), err
	},
	wire.TypeWatch: func(p []byte) ([]byte, error) {
		w, err := wire.ParseWatch(p)
		return wire.AppendWatch(nil, w), err
	},
	wire.TypePresence: func(p []byte) ([]byte, error) {
		e, err := wire.ParsePresence(p)
		return wire.AppendPresence(nil, e.Revision, e.Flags, e.Joined.AppendTo(nil), e.Left.AppendTo(nil)), err
	},
	wire.TypePing: func(p []byte) ([]byte, error) {
		n, err := wire.ParseUint64(p)
		return wire.AppendPing(nil, n), err
	},
	wire.TypePong: func(p []byte) ([]byte, error) {
		n, err := wire.ParseUint64(p)
		return wire.AppendPong(nil, n), err
	},
	wire.TypeAck: func(p []byte) ([]byte, error) {
		n, err := wire.ParseUint64(p)
		return wire.AppendAck(nil, n), err
	},
	wire.TypeError: func(p []byte) ([]byte, error) {
		e, err := wire.ParseError(p)
		return wire.AppendError(nil, e.Seq, e.Code, string(e.Text)), err
	},
	wire.TypeRenew: func(p []byte) ([]byte, error) {
		r, err := wire.ParseRenew(p)
		return wire.AppendRenew(nil, &r), err
	},
	wire.TypeRenewed: func(p []byte) ([]byte, error) {
		r, err := wire.ParseRenewed(p)
		return wire.AppendRenewed(nil, &r), err
	},
	wire.TypeSkip: func([]byte) ([]byte, error) { return wire.AppendSkip(nil), nil },
	wire.TypeBye:  func(p []byte) ([]byte, error) { return wire.AppendBye(nil), nil },
}

// vector2 is a frame of testdata/version2.json.
type vector2 struct {
	Name  string
	Frame hexBytes
}

func loadVectors2(t testing.TB) []vector2 {
	t.Helper()
	raw, err := os.ReadFile("testdata/version2.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Frames []vector2 }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	return file.Frames
}

// TestVersion2Vectors parses every frame of the vectors and rebuilds it from the result. The
// rebuilt frame must be identical. The vectors must have every frame type of version 2.
func TestVersion2Vectors(t *testing.T) {
	missing := make(map[wire.Type]bool)
	for kind := range roundTrips {
		missing[kind] = true
	}
	for _, v := range loadVectors2(t) {
		kind, payload := wire.Split(v.Frame)
		delete(missing, kind)
		rebuilt, err := roundTrips[kind](payload)
		if err != nil || !bytes.Equal(rebuilt, v.Frame) {
			t.Errorf("%s: %x, rebuilt %x, %v", v.Name, []byte(v.Frame), rebuilt, err)
		}
	}
	if len(missing) > 0 {
		t.Errorf("no vector of the types %v", missing)
	}
}

// TestVersion2Layout compares frames with the layouts in docs/PROTOCOL.md.
func TestVersion2Layout(t *testing.T) {
	for _, test := range []struct {
		name string
		got  []byte
		want string
	}{
		{"SEND", wire.AppendSend(nil, 1, wire.MakeOptions(wire.LevelReceived, wire.OverflowDropOldest), 250, []uint64{3}, []byte("hel")),
			"0000001d" + "12" + "0000000000000001" + "0000000a" + "000000fa" + "01" + "0000000000000003" + "68656c"},
		{"DELIVER", wire.AppendDeliver(nil, &wire.Deliver{Sender: 2, Seq: 1, Time: 9, Flags: wire.DeliverWantAck, Body: []byte("hel")}),
			"0000001d" + "13" + "0000000000000002" + "0000000000000001" + "0000000000000009" + "01" + "68656c"},
		{"REPORT", wire.AppendReport(nil, 1, []byte{3, 16}), "0000000c" + "14" + "0000000000000001" + "02" + "0310"},
		{"VERDICT", wire.AppendVerdicts(nil, []wire.Verdict{{Sender: 2, Seq: 1, Fate: wire.FateProcessed}}),
			"00000012" + "15" + "0000000000000002" + "0000000000000001" + "04"},
		{"SKIP", wire.AppendSkip(nil), "00000001" + "24"},
		{"LIST_RANGE", wire.AppendListRange(nil, wire.ListRange{After: 7, Limit: 1}), "0000000d" + "16" + "0000000000000007" + "00000001"},
		{"LIST_PAGE", wire.AppendListPage(nil, 9, true, []uint64{8}), "00000012" + "17" + "0000000000000009" + "01" + "0000000000000008"},
		{"WATCH", wire.AppendWatch(nil, wire.Watch{On: true, Since: 5}), "0000000a" + "18" + "01" + "0000000000000005"},
		{"PRESENCE", wire.AppendPresence(nil, 6, wire.PresenceMore, []uint64{4}, []uint64{2}),
			"0000001e" + "19" + "0000000000000006" + "02" + "00000001" + "0000000000000004" + "0000000000000002"},
		{"ERROR", wire.AppendError(nil, 1, wire.ErrorBody, "no"), "0000000d" + "1c" + "0000000000000001" + "0002" + "6e6f"},
		{"ACK", wire.AppendAck(nil, 3), "00000009" + "1f" + "0000000000000003"},
		{"BYE", wire.AppendBye(nil), "00000001" + "1d"},
		{"RENEW", wire.AppendRenew(nil, &wire.Renew{Token: "t"}), "0000000e" + "25" + hex.EncodeToString([]byte(`{"token":"t"}`))},
		{"RENEWED", wire.AppendRenewed(nil, &wire.Renewed{Expires: 250, MaxBody: 10}),
			"00000021" + "26" + hex.EncodeToString([]byte(`{"expires_ms":250,"max_body":10}`))},
	} {
		var want hexBytes
		if err := want.UnmarshalText([]byte(test.want)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(test.got, want) {
			t.Errorf("%s is %x, want %x", test.name, test.got, []byte(want))
		}
	}
}

var (
	// pageFrame matches a line of docs/PROTOCOL.md that begins a frame of version 2: a name, bytes,
	// and JSON. 00…01 is a number of 8 bytes.
	pageFrame = regexp.MustCompile(`^ [→←]? ?([A-Z_]+) +((?:(?:00…)?[0-9a-f]{2} +)*(?:00…)?[0-9a-f]{2})(?: +(\{.*))?$`)
	pageHex   = strings.NewReplacer("00…", "00000000000000", " ", "")
)

// readPageFrames returns the frames of version 2 that docs/PROTOCOL.md shows, by type.
func readPageFrames(t *testing.T) map[wire.Type][][]byte {
	t.Helper()
	page, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	frames := make(map[wire.Type][][]byte)
	lines := strings.Split(string(page), "\n")
	for i := 0; i < len(lines); i++ {
		match := pageFrame.FindStringSubmatch(lines[i])
		if match == nil {
			continue
		}
		frame, err := hex.DecodeString(pageHex.Replace(match[2]))
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		for text := match[3]; text != ""; text = strings.TrimSpace(lines[i]) {
			frame = append(frame, text...)
			if strings.HasSuffix(text, "}") {
				break
			}
			i++ // JSON continues on the next line
		}
		kind, _ := wire.Split(frame)
		frames[kind] = append(frames[kind], frame)
	}
	return frames
}

// TestVersion2Page parses every frame of version 2 that docs/PROTOCOL.md shows and rebuilds it
// from the result. The rebuilt frame must be identical. The page must show every frame type.
func TestVersion2Page(t *testing.T) {
	frames := readPageFrames(t)
	for kind, build := range roundTrips {
		if len(frames[kind]) == 0 {
			t.Errorf("no frame of type %#x", uint8(kind))
		}
		for _, frame := range frames[kind] {
			_, payload := wire.Split(frame)
			if rebuilt, err := build(payload); err != nil || !bytes.Equal(rebuilt, frame) {
				t.Errorf("%x is rebuilt as %x, %v", frame, rebuilt, err)
			}
		}
	}
}

// TestVersion2Vectors_EveryTruncation cuts the payload of every vector at every byte and makes
// it one byte longer. A payload that does not match its type must be malformed, and no parser
// may panic.
func TestVersion2Vectors_EveryTruncation(t *testing.T) {
	exact := []wire.Type{wire.TypeListRange, wire.TypeWatch, wire.TypePing, wire.TypePong, wire.TypeAck, wire.TypeReport}
	for _, v := range loadVectors2(t) {
		kind, payload := wire.Split(v.Frame)
		for cut := range payload {
			rebuilt, err := roundTrips[kind](payload[:cut:cut])
			if err != nil && !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%s cut to %d bytes: %v", v.Name, cut, err)
			}
			if err == nil && kind != wire.TypeBye && !bytes.Equal(rebuilt[wire.HeaderSize:], payload[:cut]) {
				t.Errorf("%s cut to %d bytes is rebuilt as %x", v.Name, cut, rebuilt)
			}
			if err == nil && slices.Contains(exact, kind) {
				t.Errorf("%s cut to %d bytes is accepted", v.Name, cut)
			}
		}
		if _, err := roundTrips[kind](append(slices.Clone(payload), 0)); err == nil && slices.Contains(exact, kind) {
			t.Errorf("%s with one more byte is accepted", v.Name)
		}
	}
}

func TestFate_Reaches(t *testing.T) {
	for _, test := range []struct {
		fate  wire.Fate
		level wire.Level
		want  bool
	}{
		{wire.FateWritten, wire.LevelWritten, true},
		{wire.FateReceived, wire.LevelWritten, true},
		{wire.FateQueued, wire.LevelWritten, false},
		{wire.FateWritten, wire.LevelReceived, false},
		{wire.FateProcessed, wire.LevelProcessed, true},
		{wire.FateGone, wire.LevelWritten, false},
		{wire.FateRejected, wire.LevelWritten, false},
	} {
		if got := test.fate.Reaches(test.level); got != test.want {
			t.Errorf("%v reaches level %d: %v, want %v", test.fate, test.level, got, test.want)
		}
	}
	if got := wire.Fate(99).String(); got != "fate 99" {
		t.Errorf("unknown fate: String = %q", got)
	}
}

// TestSend_HasRoomForDeliver checks that the hub can write a DELIVER over the SEND of its body.
func TestSend_HasRoomForDeliver(t *testing.T) {
	for receivers := 1; receivers <= wire.MaxReceivers; receivers++ {
		if wire.SendLen(receivers, 7) < wire.DeliverLen(7) {
			t.Fatalf("a SEND to %d receivers is shorter than the DELIVER of its body", receivers)
		}
	}
	b := append(make([]byte, wire.DeliverHeaderLen), "body"...)
	d := wire.Deliver{Sender: 1, Seq: 2, Time: 3, Flags: wire.DeliverWantVerdict}
	wire.PutDeliverHeader(b, &d, 4)
	d.Body = []byte("body")
	if want := wire.AppendDeliver(nil, &d); !bytes.Equal(b, want) {
		t.Errorf("%x, want %x", b, want)
	}
}

func FuzzVersion2(f *testing.F) {
	for _, v := range loadVectors2(f) {
		kind, payload := wire.Split(v.Frame)
		f.Add(byte(kind), payload)
	}
	f.Fuzz(func(t *testing.T, kind byte, payload []byte) {
		build := roundTrips[wire.Type(kind)]
		if build == nil {
			return
		}
		frame, err := build(payload)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%v", err)
			}
			return
		}
		// One JSON value has many spellings. Rebuilding a rebuilt frame must not change it.
		_, second := wire.Split(frame)
		rebuilt, err := build(second)
		if err != nil || !bytes.Equal(rebuilt, frame) {
			t.Errorf("%x is rebuilt as %x, and that as %x, %v", payload, frame, rebuilt, err)
		}
	})
}
