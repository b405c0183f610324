package main

import "context"

// withServer starts a server of a system, calls measure with it, and stops it. The result
// includes the resources that the server used.
func withServer(ctx context.Context, p *programs, system string, limits limitMode, measure func(*server) (*measurement, error)) (*measurement, error) {
	s, err := findSystem(system).start(ctx, p, limits)
	if err != nil {
		return nil, err
	}
	return measureAndStop(s, measure)
}

// withHub starts the hub with additional flags, calls measure with it, and stops it.
func withHub(ctx context.Context, p *programs, flags []string, measure func(*server) (*measurement, error)) (*measurement, error) {
	s, err := startHubWith(ctx, p, flags...)
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
