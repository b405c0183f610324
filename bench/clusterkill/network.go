package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	// networkPrefix is the beginning of all addresses.
	networkPrefix = "10.77.0."

	// clientsIP is the address of this program, to which all clients belong.
	clientsIP = networkPrefix + "1"

	bridge = "br0"
)

// place is a network namespace with one address, joined with the others by a bridge. The
// namespace of this program is the place of the clients.
type place struct {
	name   string
	ip     string
	ns     string    // file of the namespace; "" for that of this program
	holder *exec.Cmd // keeps the namespace; nil for that of this program
}

// newBridge makes the bridge, and returns the place of the clients.
func newBridge() (*place, error) {
	for _, command := range []string{
		"ip link set lo up",
		"ip link add " + bridge + " type bridge",
		"ip addr add " + clientsIP + "/24 dev " + bridge,
		"ip link set " + bridge + " up",
	} {
		if err := execute(command); err != nil {
			return nil, err
		}
	}
	return &place{name: "clients", ip: clientsIP}, nil
}

// newPlace makes a namespace. It ends with close, or with this program.
func newPlace(name string, number int) (*place, error) {
	p := &place{name: name, ip: fmt.Sprint(networkPrefix, number)}
	p.holder = exec.Command("sleep", "infinity")
	p.holder.SysProcAttr = childAttrInNetwork()
	if err := p.holder.Start(); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	p.ns = fmt.Sprintf("/proc/%d/ns/net", p.holder.Process.Pid)
	outer, inner := "o"+name, "i"+name
	for _, command := range []string{
		fmt.Sprintf("ip link add %s type veth peer name %s netns %d", outer, inner, p.holder.Process.Pid),
		fmt.Sprintf("ip link set %s master %s", outer, bridge),
		fmt.Sprintf("ip link set %s up", outer),
		p.inside("ip link set lo up"),
		p.inside("ip addr add " + p.ip + "/24 dev " + inner),
		p.inside("ip link set " + inner + " up"),
	} {
		if err := execute(command); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// close ends the namespace once no server is in it.
func (p *place) close() {
	_ = p.holder.Process.Kill() // it runs until now
	_ = p.holder.Wait()         // it was killed
}

// inside returns a command that runs another one in the namespace.
func (p *place) inside(command string) string {
	if p.ns == "" {
		return command
	}
	return "nsenter --net=" + p.ns + " " + command
}

// cut drops everything between two places, in both directions, without a sign to either.
func cut(a, b *place) error {
	return errors.Join(a.filter("-A", b), b.filter("-A", a))
}

// join ends a cut.
func join(a, b *place) error {
	return errors.Join(a.filter("-D", b), b.filter("-D", a))
}

// filter appends (-A) or deletes (-D) the rule that drops what comes from another place.
func (p *place) filter(action string, from *place) error {
	return execute(p.inside("iptables -w " + action + " INPUT -s " + from.ip + " -j DROP"))
}

// execute runs a command.
func execute(command string) error {
	fields := strings.Fields(command)
	cmd := exec.Command(fields[0], fields[1:]...)
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(string(out)))
	}
	return nil
}
