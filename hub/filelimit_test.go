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
	maxOpenFiles = 40 // limit of the child: its own files, those of the bystanders, and a few more
	excessConns  = 100
)

func init() { childMains["few files"] = serveWithFewFiles }

// TestServe_FileDescriptorsExhausted_Recovers exhausts, twice, the file descriptors of a hub
// in a child process. The bystanders are served meanwhile, and new connections are accepted
// afterwards.
func TestServe_FileDescriptorsExhausted_Recovers(t *testing.T) {
	h, lines := startChild(t, "few files")
	bystanders := h.startBystanders(t)
	for range 2 {
		var conns []*clientV1
		for range excessConns {
			conns = append(conns, h.connect(t)) // the kernel accepts these, the hub cannot
		}
		waitForLine(t, lines, "too many open files")
		bystanders.waitRounds(20)
		for _, c := range conns {
			c.Close()
		}
		h.connectV1(t).Close() // is answered: file descriptors are free again
		bystanders.waitRounds(3)
	}
}

// startChild starts the test binary as a hub, with mode as the value of childEnv. The cleanup
// stops the child, which must exit with code 0.
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
		for lines.Scan() { // Wait requires that all output was read
		}
		if err := child.Wait(); err != nil {
			t.Errorf("the child: %v", err)
		}
	})
	if !lines.Scan() {
		t.Fatal("the child printed nothing:", lines.Err())
	}
	return &testHub{addr: lines.Text()}, lines
}

// waitForLine reads the output of the child until a line contains text.
func waitForLine(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("the child ended without printing %q: %v", text, lines.Err())
}

// serveWithFewFiles is the main function of the child. It prints the address of the hub and
// then the log, and serves until its standard input ends.
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
