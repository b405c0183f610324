package main

import (
	"context"
	"fmt"
)

// with starts a server of a system, measures something on it, and ends it. The
// result has what the server took.
func (b *bench) with(ctx context.Context, system string, how setting, do func(*server) (*measured, error)) (*measured, error) {
	s, err := systemNamed(system).start(ctx, b.programs, how)
	if err != nil {
		return nil, err
	}
	return use(s, do)
}

// use measures something on a server, and ends it.
func use(s *server, do func(*server) (*measured, error)) (*measured, error) {
	m, err := do(s)
	taken, stopErr := s.stop()
	if err != nil {
		return nil, err
	}
	if stopErr != nil {
		return nil, stopErr
	}
	m.Server = taken
	return m, nil
}

// move runs a move on a server. The hub must not lose anything; what another
// system loses is a result.
func (b *bench) move(ctx context.Context, s *server, flags ...string) (*measured, error) {
	m, err := move(ctx, b.programs, s.name, s.addr, flags...)
	if err != nil {
		return nil, err
	}
	return m, m.acceptable(s.name)
}

// acceptable returns why a move cannot stand as a result, if so.
func (m *measured) acceptable(system string) error {
	if system == "hub" && (m.Lost > 0 || m.Faults > 0) {
		return fmt.Errorf("%d of %d deliveries lost, %d out of order or twice: %s", m.Lost, m.Expected, m.Faults, m.Problem)
	}
	if m.Lost == 0 && m.Problem != "" {
		return fmt.Errorf("nothing was lost, but: %s", m.Problem)
	}
	if m.Deliveries == 0 {
		return fmt.Errorf("nothing arrived: %s", m.Problem)
	}
	return nil
}
