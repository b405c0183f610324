package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// post sends a request for a test message.
func (s *testServer) post(text string) reply {
	s.t.Helper()
	return s.doBody(http.MethodPost, "/api/messages", newHeader("Content-Type", "application/json; charset=utf-8"), strings.NewReader(text))
}

// TestSendMessage_ReportsFates sends a test message at each level.
func TestSendMessage_ReportsFates(t *testing.T) {
	var log bytes.Buffer
	s := startHub(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	c := s.dial(t, client.Options{})
	for level, fate := range map[string]string{"": "received", `,"level":"written"`: "written", `,"level":"processed","timeout_ms":20000`: "processed"} {
		received := make(chan error, 1)
		go func() { // ends with the message, or with the test
			m, err := c.Receive(t.Context())
			if err == nil && (m.From != operatorID || string(m.Body) != "héllo") {
				err = fmt.Errorf("message %q of %d", m.Body, m.From)
			}
			m.Ack()
			received <- err
		}()
		r := s.post(fmt.Sprintf(`{"to":["%d","999"],"body":"héllo"%s}`, c.ID(), level))
		if err := <-received; err != nil {
			t.Fatal(err)
		}
		got := parseJSON[messageResponse](t, r.body)
		if want := []fateJSON{{c.ID(), fate}, {999, "unknown"}}; r.code != http.StatusOK || got.From != operatorID || !slices.Equal(got.Fates, want) {
			t.Errorf("%s: %d %s, want %v", level, r.code, r.body, want)
		}
	}
	if text := log.String(); strings.Count(text, "test message of the operator") != 3 || !strings.Contains(text, "receivers=2") || strings.Contains(text, "héllo") {
		t.Errorf("the log is %s", text)
	}
}

// TestSendMessage_SlowReceiver_DoesNotWait sends to a receiver whose queue is full: the message
// must neither wait nor make the hub end the receiver.
func TestSendMessage_SlowReceiver_DoesNotWait(t *testing.T) {
	s := startHub(t, Config{})
	slow, err := s.hub.Subscribe(0)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	options := &hub.SendOptions{Level: wire.LevelReceived, Overflow: wire.OverflowReject, ReportTimeout: pollInterval}
	eventually(t, "its queue is full", func() bool {
		report, err := s.hub.Send(t.Context(), 7, []uint64{slow.ID()}, make([]byte, 300_000), options)
		if err != nil {
			t.Fatal(err)
		}
		return report.Fates[0] == wire.FateFull
	})
	got := parseJSON[messageResponse](t, s.post(fmt.Sprintf(`{"to":["%d"],"body":"x"}`, slow.ID())).body)
	if len(got.Fates) != 1 || got.Fates[0].Fate != "full" {
		t.Errorf("%+v", got)
	}
}

func TestSendMessage_Invalid(t *testing.T) {
	s := startHub(t, Config{})
	for text, has := range map[string]string{
		``:                                "EOF",
		`null`:                            "0 ids",
		`{}`:                              "0 ids",
		`[]`:                              "array",
		`{"to":[]}`:                       "0 ids",
		`{"to":["x"]}`:                    `"x"`,
		`{"to":["-1"]}`:                   `"-1"`,
		`{"to":["18446744073709551616"]}`: "18446744073709551616",
		`{"to":[5]}`:                      "number",
		`{"to":["5"],"level":"none"}`:     "processed",
		`{"to":["5"],"timeout_ms":-1}`:    "20000",
		`{"to":["5"],"timeout_ms":20001}`: "20000",
		`{"to":["5"],"timeout_ms":1e99}`:  "timeout_ms",
		`{"to":["5"],"from":"7"}`:         "from",
		`{"to":["5"]} {"to":["6"]}`:       "continues",
		`{"to":["5"]`:                     "EOF",
		`{"to":["1"` + strings.Repeat(`,"1"`, wire.MaxReceivers) + `]}`: "256 ids",
	} {
		s.wantError(s.post(text), http.StatusBadRequest, has)
	}
	ids := strings.Repeat(`"`+strconv.FormatUint(operatorID, 10)+`",`, wire.MaxReceivers)
	if r := s.post(`{"to":[` + strings.TrimSuffix(ids, ",") + `],"body":"` + strings.Repeat("x", 1000) + `"}`); r.code != http.StatusOK {
		t.Errorf("the largest list of receivers: %d %s", r.code, r.body)
	}
	s.wantError(s.doBody(http.MethodPost, "/api/messages", newHeader("Content-Type", "text/plain"), strings.NewReader(`{"to":["5"]}`)), http.StatusUnsupportedMediaType)
	if n := s.hub.Stats().Relays; n != 1 {
		t.Errorf("the hub has sent %d messages, want 1", n)
	}
}

func TestSendMessage_Errors(t *testing.T) {
	f := &fakeHub{}
	s := startAdmin(t, Config{Hub: f})
	for _, err := range []error{hub.ErrClosed, errors.New("deadline exceeded")} {
		f.sendErr = err
		s.wantError(s.post(`{"to":["5"]}`), http.StatusServiceUnavailable, err.Error())
	}
	f.sendErr = fmt.Errorf("%w: too large", hub.ErrInvalidMessage)
	s.wantError(s.post(`{"to":["5"]}`), http.StatusBadRequest, "too large")
}

// TestSendMessage_Guarded checks that a message needs the token, and cannot come from another page.
func TestSendMessage_Guarded(t *testing.T) {
	withToken, without := startHub(t, Config{Token: token}), startHub(t, Config{})
	withToken.wantError(withToken.post(`{"to":["5"]}`), http.StatusUnauthorized)
	for _, header := range []http.Header{newHeader("Origin", "http://evil.example"), newHeader("Sec-Fetch-Site", "cross-site"), newHeader("Host", "evil.example")} {
		header.Set("Content-Type", "application/json")
		without.wantError(without.doBody(http.MethodPost, "/api/messages", header, strings.NewReader(`{"to":["5"]}`)), http.StatusForbidden)
	}
	if a, b := withToken.hub.Stats().Relays, without.hub.Stats().Relays; a+b != 0 {
		t.Errorf("%d messages were sent", a+b)
	}
}

// FuzzReadMessage parses arbitrary requests. A message that is accepted keeps all limits, and its
// JSON form is accepted as the same message.
func FuzzReadMessage(f *testing.F) {
	for _, text := range []string{
		`{"to":["5"]}`, `{"to":["5","18446744073709551615"],"body":"\u0000<script>","level":"processed","timeout_ms":20000}`,
		`{"to":["5"],"to":["6"]}`, `{"TO":["5"]}`, `{"to":["05"],"body":null}`, `{"to":[`, `{"to":["5"],"timeout_ms":9223372036854775808}`, "\xff",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, to, err := readMessage(strings.NewReader(text))
		if err != nil {
			return
		}
		if len(to) == 0 || len(to) > wire.MaxReceivers || m.TimeoutMs < 1 || m.TimeoutMs > maxMessageTimeout.Milliseconds() {
			t.Errorf("%q: %d receivers, %d ms", text, len(to), m.TimeoutMs)
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		m2, to2, err := readMessage(bytes.NewReader(again))
		if err != nil || !slices.Equal(to, to2) || m2.Body != m.Body || m2.TimeoutMs != m.TimeoutMs || levels[m2.Level] != levels[m.Level] {
			t.Errorf("%q becomes %s: %v", text, again, err)
		}
	})
}
