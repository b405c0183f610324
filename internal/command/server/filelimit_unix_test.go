//go:build unix

package server

import (
	"errors"
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

// TestServer_AdminAnswersWhenFilesRunOut opens more connections than the hub has file
// descriptors. The admin address must still answer on several connections, and the hub must
// accept clients again after others have left.
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
	for text := ""; !refused.MatchString(text); {
		_, text = httpGet(t, admin, "/metrics", "")
	}
	var adminConns []net.Conn
	// Half of the limit, because the server can still hold connections of earlier requests.
	for range adminConnectionLimit(files) / 2 {
		nc, err := net.Dial("tcp", admin)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		adminConns = append(adminConns, nc)
	}
	for range 10 {
		if code, text := httpGet(t, admin, "/readyz", ""); code != http.StatusOK {
			t.Errorf("/readyz: %d %s", code, text)
		}
	}
	for _, nc := range append(adminConns, clients...) {
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
