package main

import (
	"errors"
	"math/rand/v2"
	"time"
)

const (
	minFault = time.Second
	maxFault = 8 * time.Second
)

// fault is something that happens to the cluster, and its end.
type fault struct {
	name             string
	direct, crossing hubs
	begin, end       func() error

	server *server // that is killed or stopped; nil: the fault is a cut
	killed hubs    // they lose their sessions
	silent hubs    // they are not heard by the others
}

// faultKinds are all faults, each with the function that chooses one of its kind.
var faultKinds = []struct {
	name   string
	choose func(*arena, *rand.Rand) (*fault, error)
}{
	{"kill hub", killHub},
	{"stop hub", stopHub},
	{"kill NATS server", killNATS},
	{"kill JetStream leader", killLeader},
	{"stop NATS server", stopNATS},
	{"cut hub from NATS", cutHub},
	{"cut hub from NATS in one direction", cutHubOneWay},
	{"cut hub from one NATS server", cutHubFromOne},
	{"cut two NATS servers", cutNATS},
	{"cut one NATS server from the others", isolateNATS},
	{"cut hub from clients", cutClients},
}

func killHub(a *arena, rng *rand.Rand) (*fault, error) {
	i := rng.IntN(hubCount)
	s := a.hubs[i]
	return &fault{
		name: "kill " + s.name, direct: 1 << i, crossing: 1 << i, server: s, killed: 1 << i,
		begin: func() error { s.kill(); return nil },
		end:   s.start,
	}, nil
}

func stopHub(a *arena, rng *rand.Rand) (*fault, error) {
	i := rng.IntN(hubCount)
	s := a.hubs[i]
	return &fault{name: "stop " + s.name, direct: 1 << i, crossing: 1 << i, server: s, silent: 1 << i, begin: s.stop, end: s.resume}, nil
}

func killNATS(a *arena, rng *rand.Rand) (*fault, error) {
	return killNATSServer(a, rng.IntN(natsCount), ""), nil
}

// killLeader kills the NATS server that leads the stream of the leases.
func killLeader(a *arena, _ *rand.Rand) (*fault, error) {
	i, err := a.leaseLeader()
	if err != nil {
		return nil, err
	}
	return killNATSServer(a, i, ", which leads the leases"), nil
}

func killNATSServer(a *arena, i int, what string) *fault {
	s := a.nats[i]
	return &fault{
		name: "kill " + s.name + what, crossing: allHubs, server: s,
		begin: func() error { s.kill(); return nil },
		end:   s.start,
	}
}

func stopNATS(a *arena, rng *rand.Rand) (*fault, error) {
	s := a.nats[rng.IntN(natsCount)]
	return &fault{name: "stop " + s.name, crossing: allHubs, server: s, begin: s.stop, end: s.resume}, nil
}

func cutHub(a *arena, rng *rand.Rand) (*fault, error) {
	i := rng.IntN(hubCount)
	f := cutFault("cut "+a.hubs[i].name+" from NATS", a.hubs[i], a.nats[:])
	f.crossing, f.silent = 1<<i, 1<<i
	return f, nil
}

// cutHubOneWay drops what a hub sends to NATS, or what NATS sends to the hub.
func cutHubOneWay(a *arena, rng *rand.Rand) (*fault, error) {
	i, deaf := rng.IntN(hubCount), rng.IntN(2) == 0
	hub := a.hubs[i]
	filter := func(action string) func() error {
		return func() (err error) {
			for _, n := range a.nats {
				if deaf {
					err = errors.Join(err, hub.place.filter(action, n.place))
				} else {
					err = errors.Join(err, n.place.filter(action, hub.place))
				}
			}
			return err
		}
	}
	f := &fault{name: "mute " + hub.name + " to NATS", crossing: 1 << i, silent: 1 << i, begin: filter("-A"), end: filter("-D")}
	if deaf {
		f.name, f.silent = "deafen "+hub.name+" to NATS", 0
	}
	return f, nil
}

func cutHubFromOne(a *arena, rng *rand.Rand) (*fault, error) {
	i, n := rng.IntN(hubCount), rng.IntN(natsCount)
	f := cutFault("cut "+a.hubs[i].name+" from "+a.nats[n].name, a.hubs[i], a.nats[n:n+1])
	f.crossing = 1 << i
	return f, nil
}

func cutNATS(a *arena, rng *rand.Rand) (*fault, error) {
	pair := rng.Perm(natsCount)[:2]
	one, other := a.nats[pair[0]], a.nats[pair[1]]
	return cutFault("cut "+one.name+" from "+other.name, one, []*server{other}), nil
}

func isolateNATS(a *arena, rng *rand.Rand) (*fault, error) {
	i := rng.IntN(natsCount)
	return cutFault("cut "+a.nats[i].name+" from the other NATS servers", a.nats[i], []*server{a.nats[(i+1)%natsCount], a.nats[(i+2)%natsCount]}), nil
}

func cutClients(a *arena, rng *rand.Rand) (*fault, error) {
	i := rng.IntN(hubCount)
	s := a.hubs[i]
	return &fault{
		name: "cut " + s.name + " from its clients", direct: 1 << i,
		begin: func() error { return cut(s.place, a.clients) },
		end:   func() error { return join(s.place, a.clients) },
	}, nil
}

// cutFault is a fault that cuts a server from others, which all hubs feel.
func cutFault(name string, s *server, others []*server) *fault {
	each := func(f func(a, b *place) error) func() error {
		return func() (err error) {
			for _, other := range others {
				err = errors.Join(err, f(s.place, other.place))
			}
			return err
		}
	}
	return &fault{name: name, crossing: allHubs, begin: each(cut), end: each(join)}
}

// chooseRounds returns the kinds of n faults in random order, each kind as often as possible. Some
// rounds have two faults at the same time.
func chooseRounds(rng *rand.Rand, n int) (rounds [][]int) {
	var kinds []int
	for len(kinds) < n {
		kinds = append(kinds, rng.Perm(len(faultKinds))...)
	}
	for kinds = kinds[:n]; len(kinds) > 0; {
		size := 1
		if rng.IntN(4) == 0 {
			size = min(2, len(kinds))
		}
		rounds = append(rounds, kinds[:size])
		kinds = kinds[size:]
	}
	return rounds
}

// randomTime returns a time below limit.
func randomTime(rng *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(limit)))
}
