//go:build unix

package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
)

// limitFiles makes c start with a limit of open files.
func limitFiles(c *exec.Cmd, files int) {
	c.Args = append([]string{"sh", "-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(files)}, c.Args...)
	c.Path = "/bin/sh"
}

// keptConn returns a function that gets a path from addr. All its calls use one connection,
// which stays open until the test ends.
func keptConn(t *testing.T, addr string) (get func(path string) (code int, text string)) {
	t.Helper()
	transport := &http.Transport{MaxConnsPerHost: 1}
	t.Cleanup(transport.CloseIdleConnections)
	return func(path string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		body, err := io.ReadAll(got.Body)
		if err != nil {
			t.Fatal(err)
		}
		return got.StatusCode, string(body)
	}
}

// TestServer_AdminAnswersWhenFilesRunOut opens more connections than the hub has file
// descriptors. The admin address must still answer on as many connections as it accepts, and
// the hub must accept clients again after others have left.
func TestServer_AdminAnswersWhenFilesRunOut(t *testing.T) {
	const files, crowd = 40, 80
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	c := programtest.Child(t, "-addr=127.0.0.1", "-port=0", "-admin=127.0.0.1:0", "-log=json", "-stat=false")
	limitFiles(c, files)
	c.Stderr = write
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	admin, addr := readAddresses(t, read)
	var clients []net.Conn
	for range crowd {
		nc, err := net.Dial("tcp", addr) // the kernel accepts the connection, the hub not always
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		clients = append(clients, nc)
	}
	refused := regexp.MustCompile(`messagehub_accept_errors_total [1-9]`)
	get := keptConn(t, admin)
	for text := ""; !refused.MatchString(text); {
		_, text = get("/metrics")
	}
	for range adminConnectionLimit(files) - 1 { // get has a connection
		if code, text := keptConn(t, admin)("/readyz"); code != http.StatusOK {
			t.Errorf("/readyz: %d %s", code, text)
		}
	}
	for _, nc := range clients {
		nc.Close()
	}
	conn, err := client.Dial(t.Context(), addr, nil)
	if err != nil {
		t.Fatalf("after clients have left: %v", err)
	}
	conn.Close()
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// TestFileLimitListener_KeepsReservedFiles accepts while only reserved file descriptors are
// free.
func TestFileLimitListener_KeepsReservedFiles(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	probe := newFDProbe(inner)
	fd, ok := probe.nextFD()
	if !ok {
		t.Fatal("the number of the next file is unknown")
	}
	nc, err := net.DialTimeout("tcp", inner.Addr().String(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ln := &fileLimitListener{Listener: inner, maxFiles: fd, reserved: 0, probe: probe}
	var temporary interface{ Temporary() bool }
	if _, err := ln.Accept(); !errors.Is(err, syscall.EMFILE) || !errors.As(err, &temporary) || !temporary.Temporary() {
		t.Errorf("got %v, want a temporary error", err)
	}
	ln.maxFiles += 64 // for other files of the test
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	accepted.Close()
}

func TestReservedFiles(t *testing.T) {
	for _, tt := range []struct{ files, reserved, admin int }{
		{6, 1, 1}, {12, 1, 1}, {28, 5, 3}, {40, 8, 6}, {264, 64, 48}, {1024, 64, 48}, {1 << 20, 64, 48},
	} {
		if reserved, admin := reservedFiles(tt.files), adminConnectionLimit(tt.files); reserved != tt.reserved || admin != tt.admin {
			t.Errorf("%d files: %d reserved, %d admin connections, want %d and %d", tt.files, reserved, admin, tt.reserved, tt.admin)
		}
	}
}
