package main

import (
	"fmt"
	"os"
	"os/exec"
)

// server is a hub or a NATS server, which is started again and again.
type server struct {
	name    string
	place   *place
	program string
	args    []string
	logFile string // of all its starts

	cmd    *exec.Cmd     // nil: it does not run
	exited chan struct{} // closed when it has ended
}

// start starts the server in its place. It ends at the latest with this program.
func (s *server) start() error {
	log, err := os.OpenFile(s.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("nsenter", append([]string{"--net=" + s.place.ns, s.program}, s.args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttr()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	exited := make(chan struct{})
	go func() { // ends with the server, which kill or the end of this program ends
		defer close(exited)
		_ = cmd.Wait() // killed
	}()
	s.cmd, s.exited = cmd, exited
	return nil
}

// kill ends the server at once, also if it is stopped, and waits for its end.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // an error means that it has ended
	<-s.exited
	s.cmd = nil
}

// stop stops the server until resume.
func (s *server) stop() error { return s.cmd.Process.Signal(signalStop) }

// resume lets a stopped server go on.
func (s *server) resume() error { return s.cmd.Process.Signal(signalResume) }

// crashed reports whether the server has ended by itself.
func (s *server) crashed() bool {
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}
