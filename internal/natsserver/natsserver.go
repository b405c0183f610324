// Package natsserver runs a NATS server within the process, for tests and for simulations of a
// cluster. Production runs nats-server as a program of its own.
package natsserver

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startTimeout is how long a server has to accept connections. It needs about 20 ms.
const startTimeout = 30 * time.Second

// Start starts a server on a free port of 127.0.0.1, with JetStream in dir. modify can change its
// options; nil: it does not. The caller must call Shutdown and WaitForShutdown of the server.
func Start(dir string, modify func(*server.Options)) (*server.Server, error) {
	options := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true}
	if modify != nil {
		modify(options)
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("NATS server: %w", err)
	}
	go s.Start() // ends with Shutdown, and WaitForShutdown waits for it
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		return nil, errors.New("NATS server: it accepts no connections")
	}
	return s, nil
}
