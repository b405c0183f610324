//go:build unix

package server

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/wire"
)

// TestServer_ReloadsOnSIGHUP starts the server through Main and sends this process SIGHUP, as
// "systemctl reload" and "kill -HUP" do.
func TestServer_ReloadsOnSIGHUP(t *testing.T) {
	path := programtest.WriteConfigFile(t, "max-clients 1")
	s := programtest.NewRunning(t)
	go func() { // ends with the server; the test waits for it
		defer close(s.Done)
		s.Code = command.Main(func(p command.Process) int {
			p.Args = []string{"-addr=127.0.0.1", "-port=0", "-log=json", "-config=" + path}
			p.Stdout, p.Stderr = &s.Stdout, &s.Stderr
			return Run(p)
		})
	}()
	kill := func(signal syscall.Signal) {
		if err := syscall.Kill(syscall.Getpid(), signal); err != nil {
			t.Error(err)
		}
	}
	s.WaitForLine(&s.Stderr, `"listening"`)
	replaceFile(t, path, "max-clients 2")
	kill(syscall.SIGHUP)
	s.WaitForLine(&s.Stderr, reloaded)
	kill(syscall.SIGTERM)
	<-s.Done
	if s.Code != command.ExitOK {
		t.Errorf("exit code %d, want %d", s.Code, command.ExitOK)
	}
}

// TestMain_LogReaderCloses closes the pipes of the log and the statistics of a hub, as the end
// of tee in "start_server 2>&1 | tee" does. The hub must continue to serve, and must send
// GOAWAY at shutdown.
func TestMain_LogReaderCloses(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	c := programtest.Child(t, "-addr=127.0.0.1", "-port=0", "-admin=off", "-log=json")
	c.Stdout, c.Stderr = write, write
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	_, addr := readAddresses(t, read)
	read.Close()
	dialAt := func() *client.Client {
		conn, err := client.Dial(t.Context(), addr, &client.Options{NoReconnect: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	first := dialAt() // both connections are logged
	dialAt()
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	var goAway *client.GoAwayError
	if err := first.Err(); !errors.As(err, &goAway) || goAway.Code != wire.GoAwayShutdown {
		t.Errorf("the connection ended with %v, want a GOAWAY", err)
	}
	// The exit code is command.ExitFailure because the statistics could not be printed.
	if _ = c.Wait(); c.ProcessState.ExitCode() != command.ExitFailure {
		t.Errorf("the hub ended with %v, want exit code %d", c.ProcessState, command.ExitFailure)
	}
}
