package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/hubctl"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/wire"
)

func TestWebFlags_Validate(t *testing.T) {
	for args, want := range map[string]string{
		"-web=nonsense":                                              "-web=nonsense: allowed are ",
		"-web-origins=https://a.example":                             "-web-origins requires -web",
		"-web-token-cookie=token":                                    "-web-token-cookie requires -web",
		"-web-trusted-proxies=10.0.0.1":                              "-web-trusted-proxies requires -web",
		"-web=:9980 -web-origins=a.example":                          "-web-origins=a.example: allowed are ",
		"-web=:9980 -web-origins=https://a.example,":                 `-web-origins=https://a.example,: "" is not an origin`,
		"-web=:9980 -web-trusted-proxies=proxy":                      "-web-trusted-proxies=proxy: allowed are ",
		"-web=:9980 -web-token-cookie=token":                         "-web-token-cookie requires -auth-keys",
		"-web=:9980 -web-token-cookie=a=b -auth-keys=x":              "-web-token-cookie=a=b is not the name of a cookie",
		"-web=:9980 -web-token-cookie=a -web-origins=* -auth-keys=x": "-web-token-cookie with -web-origins=*",
	} {
		programtest.CheckUsageError(t, programtest.Run(Run, append(strings.Fields(args), "-check")...), "start_server: "+want)
	}
	got := programtest.Run(Run, "-check", "-web=localhost:9980", "-web-origins=https://a.example, https://*.b.example", "-web-trusted-proxies=10.0.0.5")
	if got.Code != command.ExitOK || !strings.Contains(got.Stdout, "web-origins = https://a.example,https://*.b.example ") {
		t.Errorf("%+v", got)
	}
}

// webAddr returns the web address that a hub has logged.
func webAddr(t *testing.T, s *programtest.Running) string {
	t.Helper()
	var event struct{ Addr string }
	line := s.WaitForLine(&s.Stderr, "web address open")
	if err := json.Unmarshal([]byte(line), &event); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return event.Addr
}

// startServerWithWeb starts a hub with a web address, which it returns.
func startServerWithWeb(t *testing.T, args ...string) (s *programtest.Running, port, addr string) {
	t.Helper()
	s, port = startServer(t, append(args, "-web=127.0.0.1:0")...)
	return s, port, webAddr(t, s)
}

// dialWebSocket connects a WebSocket to url and completes the handshake of version 2. It returns
// the id of the client.
func dialWebSocket(t *testing.T, url string, config *tls.Config, header http.Header) (nc net.Conn, id uint64, err error) {
	t.Helper()
	d := ws.Dialer{Protocols: []string{wire.Subprotocol}, TLSConfig: config, Header: ws.HandshakeHeaderHTTP(header)}
	nc, _, _, err = d.Dial(t.Context(), url)
	if err != nil {
		return nil, 0, err
	}
	t.Cleanup(func() { nc.Close() })
	if err := wsutil.WriteClientBinary(nc, wire.AppendHello(nil, &wire.Hello{Version: wire.Version2})); err != nil {
		t.Fatal(err)
	}
	message, err := wsutil.ReadServerBinary(nc)
	if err != nil {
		t.Fatal(err)
	}
	kind, payload := wire.Split(message)
	w, err := wire.ParseWelcome(payload)
	if kind != wire.TypeWelcome || err != nil {
		t.Fatalf("a frame of type %#x, %v", kind, err)
	}
	return nc, w.ID, nil
}

// TestServer_Web_EndToEnd sends a message from a TCP client to a WebSocket, and stops the hub,
// which tells the WebSocket so.
func TestServer_Web_EndToEnd(t *testing.T) {
	s, port, admin := startServerWithAdmin(t, "-admin=127.0.0.1:0", "-web=127.0.0.1:0")
	addr := webAddr(t, s)
	nc, id, err := dialWebSocket(t, "ws://"+addr+wire.WebPath, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	sender := programtest.Dial(t, port)
	if err := sender.Send(t.Context(), []uint64{id}, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	message, err := wsutil.ReadServerBinary(nc)
	if kind, payload := wire.Split(message); err != nil || kind != wire.TypeDeliver || !strings.HasSuffix(string(payload), "hello") {
		t.Errorf("a frame of type %#x: %q, %v", kind, payload, err)
	}
	_, _, err = dialWebSocket(t, "ws://"+addr+wire.WebPath, nil, http.Header{"Origin": {"https://evil.example"}})
	if err == nil {
		t.Error("a foreign origin was accepted")
	}
	_, metrics := httpGet(t, admin, "/metrics", "")
	for _, want := range []string{"\nmessagehub_websockets_total 1\n", `messagehub_connections_refused_total{reason="foreign origin"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in %s", want, metrics)
		}
	}
	sender.Close()
	if got := s.Interrupt(); got.Code != command.ExitOK {
		t.Errorf("%+v", got)
	}
	var closed wsutil.ClosedError
	for err == nil || !asClosed(err, &closed) {
		if _, err = wsutil.ReadServerBinary(nc); err != nil && !asClosed(err, &closed) {
			t.Fatal(err)
		}
	}
	if closed.Code != ws.StatusGoingAway {
		t.Errorf("closed with %v", closed)
	}
}

func asClosed(err error, closed *wsutil.ClosedError) bool {
	c, ok := err.(wsutil.ClosedError)
	*closed = c
	return ok
}

// TestServer_Web_TLS checks that the web address has the certificate of the hub, also after it has
// changed, and offers HTTP/1.1 only.
func TestServer_Web_TLS(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	cert, key := authority.IssueLocal().WriteFiles(t)
	s, _, addr := startServerWithWeb(t, "-tls-cert="+cert, "-tls-key="+key)
	config := &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", NextProtos: []string{"h2", "http/1.1"}}
	serial := func() string {
		c, err := tls.Dial("tcp", addr, config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := c.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
			t.Errorf("ALPN %q", got)
		}
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	if _, _, err := dialWebSocket(t, "wss://"+addr+wire.WebPath, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"}, nil); err != nil {
		t.Error(err)
	}
	before := serial()
	newCert, newKey := authority.IssueLocal().WriteFiles(t)
	for from, to := range map[string]string{newCert: cert, newKey: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	s.Reload(reloaded)
	if after := serial(); after == before {
		t.Error("the certificate is the same after a reload")
	}
	if c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", NextProtos: []string{wire.ALPN}}); err == nil {
		c.Close()
		t.Error("a client of the TCP address is accepted")
	}
}

// TestServer_Web_Reload changes the origins of a running hub.
func TestServer_Web_Reload(t *testing.T) {
	path := programtest.WriteConfigFile(t, "web 127.0.0.1:0")
	s, _ := startServer(t, "-config="+path)
	url := "ws://" + webAddr(t, s) + wire.WebPath
	page := http.Header{"Origin": {"https://page.example"}}
	if _, _, err := dialWebSocket(t, url, nil, page); err == nil {
		t.Error("accepted before")
	}
	replaceFile(t, path, "web 127.0.0.1:0\nweb-origins https://page.example")
	s.Reload(reloaded)
	if _, _, err := dialWebSocket(t, url, nil, page); err != nil {
		t.Error(err)
	}
	replaceFile(t, path, "web 127.0.0.1:0\nweb-origins page.example")
	s.Reload(notReloaded)
	if _, _, err := dialWebSocket(t, url, nil, page); err != nil {
		t.Error(err)
	}
}

// TestServer_Web_TokenCookie takes the token of a browser from a cookie.
func TestServer_Web_TokenCookie(t *testing.T) {
	key := programtest.MakeKeyFile(t, hubctl.Run)
	token, err := os.ReadFile(programtest.MakeTokenFile(t, hubctl.Run, key, "-sub=alice", "-id=5"))
	if err != nil {
		t.Fatal(err)
	}
	_, _, addr := startServerWithWeb(t, "-auth-keys="+key+".pub", "-web-token-cookie=hub_token")
	header := http.Header{"Origin": {"http://" + addr}, "Cookie": {"hub_token=" + strings.TrimSpace(string(token))}}
	if _, id, err := dialWebSocket(t, "ws://"+addr+wire.WebPath, nil, header); err != nil || id != 5 {
		t.Errorf("id %d, %v", id, err)
	}
}

// TestServer_Web_AddressInUse names the setting.
func TestServer_Web_AddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := programtest.Run(Run, "-addr=127.0.0.1", "-port=0", "-admin=off", "-web="+ln.Addr().String())
	if got.Code != command.ExitFailure || !strings.Contains(got.Stderr, "cannot open the web address") || !strings.Contains(got.Stderr, "-web=off") {
		t.Errorf("%+v", got)
	}
}

// nginxConfig returns the text of the block of docs/OPERATIONS.md with a configuration of nginx,
// for a proxy that listens at addr and has upstream as its hub.
func nginxConfig(t *testing.T, addr, upstream, cert, key, dir string) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "```nginx\n")
	block, _, ended := strings.Cut(rest, "```")
	if !found || !ended {
		t.Fatal("docs/OPERATIONS.md has no configuration of nginx")
	}
	for from, to := range map[string]string{
		"listen 443 ssl;": "listen " + addr + " ssl;", "server 127.0.0.1:9980;": "server " + upstream + ";",
		"/etc/ssl/certs/hub.example.pem": cert, "/etc/ssl/private/hub.example.key": key,
	} {
		if !strings.Contains(block, from) {
			t.Fatalf("no %q in the configuration of nginx", from)
		}
		block = strings.ReplaceAll(block, from, to)
	}
	temp := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += kind + "_temp_path " + dir + "/" + kind + ";\n"
	}
	return "daemon off;\nmaster_process off;\npid " + dir + "/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n" + temp + block + "}\n"
}

// TestServer_Web_BehindNginx runs the hub behind nginx with the configuration of
// docs/OPERATIONS.md. It is skipped where nginx is not installed.
func TestServer_Web_BehindNginx(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("nginx is not installed")
	}
	s, _, admin := startServerWithAdmin(t, "-admin=127.0.0.1:0", "-web=127.0.0.1:0", "-web-trusted-proxies=127.0.0.1", "-keepalive=1s")
	dir := t.TempDir()
	authority := testcerts.NewAuthority(t)
	cert, key := authority.IssueLocal().WriteFiles(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close() // nginx listens there
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(nginxConfig(t, addr, webAddr(t, s), cert, key, dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, nginx, "-p", dir, "-c", file)
	var output strings.Builder
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = command.Wait() // it was killed
		if t.Failed() {
			t.Log(output.String())
		}
	}()
	waitListening(t, addr)
	config := &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"}
	header := http.Header{"Origin": {"https://" + addr}, "X-Forwarded-For": {"192.0.2.66"}, "Forwarded": {"for=192.0.2.67"}}
	nc, id, err := dialWebSocket(t, "wss://"+addr+wire.WebPath, config, header)
	if err != nil {
		t.Fatal(err)
	}
	if _, text := httpGet(t, admin, "/api/clients", ""); !strings.Contains(text, `"address":"127.0.0.1:0"`) {
		t.Errorf("the address of the client is not that which nginx names: %s", text)
	}
	send := wire.AppendSend(nil, 1, 0, 0, []uint64{id}, make([]byte, wire.DefaultMaxBody))
	if err := wsutil.WriteClientBinary(nc, send); err != nil {
		t.Fatal(err)
	}
	for pings := 0; pings < 3; { // it stays open while nothing but the keep-alive is sent
		message, err := wsutil.ReadServerBinary(nc)
		if err != nil {
			t.Fatal(err)
		}
		for frame := range wire.Frames(message) {
			kind, payload := wire.Split(frame)
			if n, err := wire.ParseUint64(payload); kind == wire.TypePing && err == nil {
				pings++
				err = wsutil.WriteClientBinary(nc, wire.AppendPong(nil, n))
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if _, _, err := dialWebSocket(t, "wss://"+addr+wire.WebPath, config, http.Header{"Origin": {"https://evil.example"}}); err == nil {
		t.Error("a foreign origin is accepted")
	}
	if got := httpsGet(t, addr, authority.Pool()); got != http.StatusUpgradeRequired {
		t.Errorf("status %d for a request that is no upgrade", got)
	}
}

// waitListening waits until a server accepts connections at addr.
func waitListening(t *testing.T, addr string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 50 * 60 { // a minute
		if nc, err := net.Dial("tcp", addr); err == nil {
			nc.Close()
			return
		}
		<-tick.C
	}
	t.Fatalf("nothing listens at %s", addr)
}

// httpsGet sends a plain GET request for the path of WebSockets and returns the status.
func httpsGet(t *testing.T, addr string, pool *x509.CertPool) int {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}, DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Get("https://" + addr + wire.WebPath)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}
