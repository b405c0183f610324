package main

import (
	"context"
	"errors"
	"os/exec"
)

// limitMode is how the limits of a server are configured.
type limitMode int

const (
	// limitsRaised is for measuring: the server drops nothing that it could hold.
	limitsRaised limitMode = iota

	// limitsDefault keeps the default limits of the server.
	limitsDefault
)

// system is a server under measurement.
type system struct {
	name string

	// start starts a server on the loopback interface.
	start func(context.Context, *programs, limitMode) (*server, error)

	// program is the program that must be installed; "" if bench builds it.
	program string
}

// checkInstalled returns an error if the system cannot be started on this machine.
func (s system) checkInstalled() error {
	if s.program == "" {
		return nil
	}
	_, err := findProgram(s.program)
	return err
}

// findProgram returns the path of a program of an installed package. It searches PATH and the
// folders in which packages install servers, which PATH may not contain.
func findProgram(name string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", errors.New(name + " is not installed: apt-get install mosquitto redis-server brings both peers; " +
		"it also starts a service of each, which is not used here and may be disabled")
}
