package main

import (
	"fmt"
	"maps"
	"slices"
)

// system is a system that the load program can drive.
type system struct {
	newDriver func(t target, clients int) driver
	visit     func(addr string) error // connect, get the id and leave; nil if the system has no ids

	// echoes means that a client that sends to all clients gets its own message. That copy is
	// neither counted nor checked.
	echoes bool
}

var systems = map[string]system{
	"hub":     {newDriver: newHubDriver, visit: visitHub},
	"hub2":    {newDriver: newHub2Driver},
	"hub-raw": {newDriver: newRawHubDriver},

	"hub-frames":           {newDriver: newFramesTCPDriver},
	"hub-frames-ws":        {newDriver: newFramesWSDriver},
	"hub-frames-receivers": {newDriver: newFramesWSReceiversDriver},

	"forward":   {newDriver: newForwardDriver},
	"nats":      {newDriver: newNATSDriver, visit: visitNATS},
	"nats-ws":   {newDriver: newNATSWSDriver},
	"chat":      {newDriver: newChatDriver},
	"redis":     {newDriver: newRedisDriver, visit: visitRedis, echoes: true},
	"mosquitto": {newDriver: newMQTTDriver, visit: visitMQTT, echoes: true},
}

func systemNames() []string { return slices.Sorted(maps.Keys(systems)) }

// findSystem returns the system with the given name.
func findSystem(name string) (system, error) {
	s, ok := systems[name]
	if !ok {
		return s, fmt.Errorf("unknown system %q, there are %v", name, systemNames())
	}
	return s, nil
}
