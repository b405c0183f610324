//go:build linux || darwin

package hub_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/sechlol/go-message-hub/hub"
)

const (
	maxOpenFiles = 40 // what the child may open: its own, the bystanders, and some more
	excessConns  = 100
)

func init() { childMains["few files"] = serveWithFewFiles }

// TestServe_FileDescriptorsExhausted_Recovers has a hub in a process of its own that may
// open few files, and takes them all, twice.
func TestServe_FileDescriptorsExhausted_Recovers(t *testing.T) {
	h, lines := startChild(t, "few files")
	bystanders := h.startBystanders(t)
	for range 2 {
		var conns []*clientV1
		for range excessConns {
			conns = append(conns, h.connect(t)) // the kernel takes them, the hub cannot
		}
		waitForLine(t, lines, "too many open files")
		bystanders.waitRounds(20)
		for _, c := range conns {
			c.Close()
		}
		h.connectV1(t).Close() // is answered: there is room again
		bystanders.waitRounds(3)
	}
}

// startChild starts the test binary as a hub. It is stopped, and must have ended
// well, at the end of the test.
func startChild(t *testing.T, mode string) (*testHub, *bufio.Scanner) {
	t.Helper()
	child := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+mode)
	child.Stderr = os.Stderr
	stop, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	t.Cleanup(func() {
		stop.Close()
		for lines.Scan() { // Wait wants everything read
		}
		if err := child.Wait(); err != nil {
			t.Errorf("the child: %v", err)
		}
	})
	if !lines.Scan() {
		t.Fatal("the child says nothing:", lines.Err())
	}
	return &testHub{addr: lines.Text()}, lines
}

// waitForLine reads what the child prints until text is in it.
func waitForLine(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("the child has ended without saying %q: %v", text, lines.Err())
}

// serveWithFewFiles is the child: it prints its address and then its log, and
// serves until its standard input ends.
func serveWithFewFiles() int {
	limit := syscall.Rlimit{Cur: maxOpenFiles, Max: maxOpenFiles}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(ln.Addr())
	h, err := hub.New(hub.Config{Logger: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(context.Background(), ln) }() // ends with Shutdown
	_, _ = io.Copy(io.Discard, os.Stdin)                        // ends with the test
	if err := h.Shutdown(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-served
	return 0
}
