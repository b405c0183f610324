package main

import (
	"context"
	"fmt"
)

// withServer starts a server of a system, calls measure with it, and stops it. The result
// includes the resources that the server used.
func (b *bench) withServer(ctx context.Context, system string, limits limitMode, measure func(*server) (*measurement, error)) (*measurement, error) {
	s, err := findSystem(system).start(ctx, b.programs, limits)
	if err != nil {
		return nil, err
	}
	return measureAndStop(s, measure)
}

// measureAndStop calls measure with a server, and stops the server.
func measureAndStop(s *server, measure func(*server) (*measurement, error)) (*measurement, error) {
	m, err := measure(s)
	used, stopErr := s.stop()
	if err != nil {
		return nil, err
	}
	if stopErr != nil {
		return nil, stopErr
	}
	m.Server = used
	return m, nil
}

// measureMove runs a move on a server. A loss at the hub is an error; a loss at another system
// is a result.
func (b *bench) measureMove(ctx context.Context, s *server, flags ...string) (*measurement, error) {
	m, err := runMove(ctx, b.programs, s.name, s.addr, flags...)
	if err != nil {
		return nil, err
	}
	return m, m.validate(s.name)
}

// validate returns an error if the measurement of a move is not a valid result.
func (m *measurement) validate(system string) error {
	if system == "hub" && (m.Lost > 0 || m.Faults > 0) {
		return fmt.Errorf("%d of %d deliveries lost, %d duplicated, out of order or corrupted: %s", m.Lost, m.Expected, m.Faults, m.Problem)
	}
	if m.Lost == 0 && m.Problem != "" {
		return fmt.Errorf("client error without a loss: %s", m.Problem)
	}
	if m.Deliveries == 0 {
		return fmt.Errorf("nothing arrived: %s", m.Problem)
	}
	return nil
}
