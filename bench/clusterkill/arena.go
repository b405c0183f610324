package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/client"
)

const (
	hubCount  = 3
	natsCount = 3

	hubPort, adminPort   = "9999", "9990"
	natsPort, routesPort = "4222", "6222"

	clusterName = "kill"

	// resumeWindow is that of the hubs. It is short so that a session that nobody resumes is soon
	// no longer listed.
	resumeWindow = 4 * time.Second

	startTimeout = time.Minute
)

// keepAlives are the keep-alive intervals of the hubs. The clients of the first leave it while it
// is stopped; those of the others mostly wait for it.
var keepAlives = [hubCount]time.Duration{2 * time.Second, 15 * time.Second, 5 * time.Second}

// arena is the cluster.
type arena struct {
	dir     string
	clients *place
	hubs    [hubCount]*server
	nats    [natsCount]*server
}

// newArena makes the namespaces and starts all servers. programs is the folder of start_server and
// nats-server, dir a folder for logs and data. The caller must close the arena, also on an error.
func newArena(ctx context.Context, programs, dir string) (a *arena, err error) {
	a = &arena{dir: dir}
	if a.clients, err = newBridge(); err != nil {
		return a, err
	}
	for i := range a.nats {
		if a.nats[i], err = a.newServer(fmt.Sprint("nats", i+1), filepath.Join(programs, "nats-server"), 21+i); err != nil {
			return a, err
		}
	}
	for i := range a.hubs {
		if a.hubs[i], err = a.newServer(fmt.Sprint("hub", i+1), filepath.Join(programs, "start_server"), 11+i); err != nil {
			return a, err
		}
	}
	for i, s := range a.nats {
		if s.args, err = a.natsArgs(i); err == nil {
			err = s.start()
		}
		if err != nil {
			return a, err
		}
	}
	for i, s := range a.hubs {
		if s.args, err = a.hubArgs(i); err == nil {
			err = s.start()
		}
		if err != nil {
			return a, err
		}
	}
	return a, a.awaitHubs(ctx)
}

func (a *arena) newServer(name, program string, number int) (*server, error) {
	p, err := newPlace(name, number)
	if err != nil {
		return nil, err
	}
	return &server{name: name, place: p, program: program, logFile: filepath.Join(a.dir, name+".log")}, nil
}

// natsArgs writes the configuration of a NATS server and returns its arguments.
func (a *arena) natsArgs(i int) ([]string, error) {
	var routes []string
	for _, s := range a.nats {
		routes = append(routes, fmt.Sprintf("nats://%s:%s", s.place.ip, routesPort))
	}
	s := a.nats[i]
	file := filepath.Join(a.dir, s.name+".conf")
	return []string{"-c", file}, os.WriteFile(file, fmt.Appendf(nil, `
server_name: %s
listen: "%s:%s"
ping_interval: "2s"
ping_max: 2
write_deadline: "2s"
jetstream { store_dir: %q, max_memory_store: 64MB, max_file_store: 256MB }
cluster { name: kill, listen: "%s:%s", ping_interval: "2s", routes: [%s] }
`, s.name, s.place.ip, natsPort, filepath.Join(a.dir, s.name), s.place.ip, routesPort, strings.Join(routes, ", ")), 0o644)
}

// hubArgs returns the arguments of a hub.
func (a *arena) hubArgs(i int) ([]string, error) {
	token := filepath.Join(a.dir, "admin-token")
	if err := os.WriteFile(token, []byte(adminToken), 0o600); err != nil {
		return nil, err
	}
	s := a.hubs[i]
	return []string{
		"-addr=" + s.place.ip, "-port=" + hubPort, "-stat=false", "-log=json",
		"-admin=" + s.place.ip + ":" + adminPort, "-admin-token-file=" + token,
		"-keepalive=" + keepAlives[i].String(), "-resume-window=" + resumeWindow.String(), "-window=256KiB",
		"-cluster=" + a.natsURLs(), "-cluster-name=" + clusterName, "-hub-name=" + s.name, "-hub-address=" + a.hubAddr(i),
	}, nil
}

func (a *arena) natsURLs() string {
	var urls []string
	for _, s := range a.nats {
		urls = append(urls, fmt.Sprintf("nats://%s:%s", s.place.ip, natsPort))
	}
	return strings.Join(urls, ",")
}

func (a *arena) hubAddr(i int) string { return a.hubs[i].place.ip + ":" + hubPort }

// hubAddrs returns the addresses of all hubs, the one of the first hub first.
func (a *arena) hubAddrs(first int) string {
	var addrs []string
	for i := range hubCount {
		addrs = append(addrs, a.hubAddr((first+i)%hubCount))
	}
	return strings.Join(addrs, ",")
}

// hubAt returns the number of the hub with an address, or -1.
func (a *arena) hubAt(addr string) int {
	for i := range a.hubs {
		if a.hubAddr(i) == addr {
			return i
		}
	}
	return -1
}

// awaitHubs waits until all hubs accept clients.
func (a *arena) awaitHubs(ctx context.Context) error {
	for i := range a.hubs {
		if err := a.awaitHub(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// awaitHub waits until a hub accepts a client.
func (a *arena) awaitHub(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		c, err := client.Dial(attempt, a.hubAddr(i), &client.Options{NoReconnect: true})
		cancel()
		if err == nil {
			return c.Close()
		}
		if ctx.Err() != nil || a.hubs[i].crashed() {
			return fmt.Errorf("%s does not accept clients: %w", a.hubs[i].name, err)
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// checkRunning returns an error if a server has ended by itself.
func (a *arena) checkRunning() error {
	for _, s := range a.servers() {
		if s.crashed() {
			return fmt.Errorf("%s has ended by itself", s.name)
		}
	}
	return nil
}

// servers returns all servers that were made.
func (a *arena) servers() (all []*server) {
	for _, s := range append(a.nats[:], a.hubs[:]...) {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// close ends all servers and namespaces.
func (a *arena) close() {
	for _, s := range a.servers() {
		s.kill()
		s.place.close()
	}
}

// sleep waits, and returns false if ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
