package natsconn

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
)

func TestOpen_Errors(t *testing.T) {
	tests := map[string]struct {
		tls   bool
		serve func(*fakeServer)
		want  string
	}{
		"closed at once":   {false, func(s *fakeServer) { s.Close() }, "EOF"},
		"another protocol": {false, func(s *fakeServer) { s.send("HTTP/1.1 400 Bad Request\r\n") }, `no protocol of NATS: "HTTP/1.1 400`},
		"no INFO":          {false, func(s *fakeServer) { s.send("PING\r\n") }, "no INFO at first"},
		"error at first":   {false, func(s *fakeServer) { s.send("-ERR 'maximum connections exceeded'\r\n") }, "maximum connections exceeded"},
		"invalid INFO":     {false, func(s *fakeServer) { s.send("INFO x\r\n") }, "INFO: invalid"},
		"no headers":       {false, func(s *fakeServer) { s.send("INFO {}\r\n") }, "does not permit headers"},
		"TLS required":     {false, func(s *fakeServer) { s.send(`INFO {"headers":true,"tls_required":true}` + "\r\n") }, "requires TLS"},
		"no TLS":           {true, func(s *fakeServer) { s.send(testInfo) }, "offers no TLS"},
		"more before TLS":  {true, func(s *fakeServer) { s.send(`INFO {"headers":true,"tls_required":true}` + "\r\nPONG\r\n") }, "more than INFO before TLS"},
		"no certificate": {true, func(s *fakeServer) {
			s.send(`INFO {"headers":true,"tls_available":true}` + "\r\n")
			s.r.ReadByte()
			s.Close()
		}, "TLS: "},
		"user not accepted": {false, func(s *fakeServer) {
			s.send(testInfo)
			s.want("CONNECT", "PING")
			s.send("-ERR 'Authorization Violation'\r\n")
			s.Close()
		}, "Authorization Violation"},
		"closed at CONNECT": {false, func(s *fakeServer) { s.send(testInfo); s.want("CONNECT", "PING"); s.Close() }, "EOF"},
		"nonsense at the end": {false, func(s *fakeServer) {
			s.send(testInfo)
			s.want("CONNECT", "PING")
			s.send("PONG\r\nx\r\n")
			io.Copy(io.Discard, s.r)
		}, "no protocol of NATS"},
	}
	for name, tt := range tests {
		config := testConfig(t)
		if tt.tls {
			config.TLS = &tls.Config{ServerName: "x"}
		}
		if err := tryOpen(t, t.Context(), config, tt.serve); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOpen_MissingPermissions checks that the error has a *ServerError for each of them, and not
// more than a hub can need.
func TestOpen_MissingPermissions(t *testing.T) {
	err := tryOpen(t, t.Context(), testConfig(t), func(s *fakeServer) {
		s.send(testInfo)
		s.want("CONNECT", "PING")
		s.send("PONG\r\nPING\r\n")
		s.want("SUB a 1", "HPUB", "NATS/1.0", "Hub-Probe", "", "", "PING", "PONG")
		s.send("MSG a 1 1\r\nx\r\n") // while it is not known whether the hub is accepted
		s.send(`-ERR 'Permissions Violation for Subscription to "a"'` + "\r\n")
		s.send(strings.Repeat(`-ERR 'Permissions Violation for Publish to "a"'`+"\r\n", 100))
		s.send("PONG\r\n")
	})
	told, ok := errors.AsType[*ServerError](err)
	if !ok || told.isPublishPermission() || !strings.Contains(err.Error(), `Subscription to "a"; the NATS server says: Permissions Violation for Publish to "a"`) {
		t.Errorf("%v", err)
	}
	if n := strings.Count(err.Error(), "Violation"); n != maxServerErrors {
		t.Errorf("%d errors", n)
	}
}

func TestOpen_EndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := tryOpen(t, ctx, testConfig(t), func(s *fakeServer) { s.send(testInfo); s.want("CONNECT", "PING") })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestOpen_ErrorBeforeContextEnds has a server tell an error, and then nothing more.
func TestOpen_ErrorBeforeContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := tryOpen(t, ctx, testConfig(t), func(s *fakeServer) {
			s.send(testInfo)
			s.want("CONNECT", "PING")
			s.send("-ERR 'Authorization Violation'\r\n")
		})
		var told *ServerError
		if !errors.As(err, &told) || !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
	})
}

func TestConnectLine(t *testing.T) {
	sign := func(nonce []byte) ([]byte, error) { return append([]byte("signed "), nonce...), nil }
	tests := map[string]struct {
		auth Auth
		want map[string]any // besides what is always there
	}{
		"nothing":  {Auth{Sign: sign}, nil},
		"password": {Auth{User: "u", Password: `"p`}, map[string]any{"user": "u", "pass": `"p`}},
		"token":    {Auth{Token: "t"}, map[string]any{"auth_token": "t"}},
		"NKey":     {Auth{NKey: "U", Sign: sign}, map[string]any{"nkey": "U", "sig": "c2lnbmVkIG4"}},
		"JWT":      {Auth{JWT: "j", Sign: sign}, map[string]any{"jwt": "j", "sig": "c2lnbmVkIG4"}},
	}
	for name, tt := range tests {
		config := testConfig(t)
		config.Auth = tt.auth
		line, err := (&Conn{config: config}).connectLine("n")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want := map[string]any{
			"verbose": false, "pedantic": false, "tls_required": false, "name": "hub", "lang": "go", "version": "v1", "protocol": 1.0,
			"echo": false, "headers": true, "no_responders": false,
		}
		for field, value := range tt.want {
			want[field] = value
		}
		var got map[string]any
		arguments, _ := strings.CutPrefix(string(line), "CONNECT ")
		if err := json.Unmarshal([]byte(arguments), &got); err != nil || !strings.HasSuffix(arguments, "}\r\n") {
			t.Errorf("%s: %q, %v", name, line, err)
		}
		for field := range want {
			if got[field] != want[field] {
				t.Errorf("%s: %s is %v, want %v", name, field, got[field], want[field])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestConnectLine_NotSigned(t *testing.T) {
	failed := errors.New("failed")
	config := testConfig(t)
	config.Auth = Auth{NKey: "U", Sign: func([]byte) ([]byte, error) { return nil, failed }}
	if err := tryOpen(t, t.Context(), config, func(s *fakeServer) { s.send(testInfo) }); !errors.Is(err, failed) {
		t.Error(err)
	}
}

// TestOpen_TLS checks that frames go through TLS.
func TestOpen_TLS(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	pair := authority.IssueLocal()
	config := testConfig(t)
	config.TLS = &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"}
	frames := make(chan string, 1)
	config.Handle = func(payload []byte) { frames <- string(payload) }
	hub, s := newPipe(t)
	served := make(chan struct{})
	go func() { // ends with the frames, for which the test waits
		defer close(served)
		s.send(`INFO {"headers":true,"tls_required":true}` + "\r\n")
		secure := tls.Server(s.Conn, &tls.Config{Certificates: []tls.Certificate{pair.TLS(t)}})
		s.Conn, s.r = secure, bufio.NewReader(secure)
		s.want("CONNECT", "PING")
		s.send("PONG\r\n")
		s.want("SUB a 1", "HPUB", "NATS/1.0", "Hub-Probe", "", "", "PING")
		s.send("PONG\r\nMSG a 1 5\r\nhello\r\n")
		s.want("PUB b 5000", pad("x", 5000))
	}()
	c, err := Open(t.Context(), hub, config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := <-frames; got != "hello" {
		t.Errorf("%q", got)
	}
	if err := c.Publish([]byte("b"), []byte(pad("x", 5000))); err != nil {
		t.Error(err)
	}
	<-served
}
