package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.yaml.in/yaml/v3"

	"github.com/sechlol/go-message-hub/natscluster"
)

// The files of deploy/ that start hubs and NATS servers cannot run in a test. These tests check
// what a mistake breaks: names of settings, their values, ports, and the configuration of NATS.

// deployFile returns the path of a file in deploy/.
func deployFile(path string) string {
	return filepath.Join("..", "..", "..", "deploy", filepath.FromSlash(path))
}

func readDeployFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(deployFile(path))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// manifest is what the tests need of an object of Kubernetes. Fields that do not exist are errors
// of kubectl, which the tests do not find.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		ServiceName string `yaml:"serviceName"`
		Replicas    int
		Ports       []struct {
			Port       int
			TargetPort string `yaml:"targetPort"`
		}
		Selector any
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     podSpec
		}
	}
}

type podSpec struct {
	EnableServiceLinks *bool `yaml:"enableServiceLinks"`
	GracePeriod        int   `yaml:"terminationGracePeriodSeconds"`
	Containers         []container
}

type container struct {
	Image string
	Args  []string
	Env   []struct{ Name, Value string }
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	ReadinessProbe, LivenessProbe probe
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

// UnmarshalYAML implements yaml.Unmarshaler: the probes have names in camel case.
func (c *container) UnmarshalYAML(node *yaml.Node) error {
	type plain container
	var probes struct {
		Readiness probe `yaml:"readinessProbe"`
		Liveness  probe `yaml:"livenessProbe"`
	}
	if err := errors.Join(node.Decode((*plain)(c)), node.Decode(&probes)); err != nil {
		return err
	}
	c.ReadinessProbe, c.LivenessProbe = probes.Readiness, probes.Liveness
	return nil
}

// readManifests returns the objects of a file of Kubernetes.
func readManifests(t *testing.T, path string) (list []manifest) {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(readDeployFile(t, path)))
	for {
		var m manifest
		switch err := decoder.Decode(&m); {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			t.Fatalf("%s: %v", path, err)
		}
		list = append(list, m)
	}
}

// findManifest returns the object of this kind and name.
func findManifest(t *testing.T, list []manifest, kind, name string) *manifest {
	t.Helper()
	for i := range list {
		if list[i].Kind == kind && list[i].Metadata.Name == name {
			return &list[i]
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

// hubSettings returns the settings of a hub with these arguments and variables, which must be
// valid. Files that they name exist.
func hubSettings(t *testing.T, args []string, env map[string]string) *config {
	t.Helper()
	secrets := t.TempDir()
	for i, arg := range args {
		name, path, found := strings.Cut(arg, "=/")
		if !found {
			continue
		}
		file := filepath.Join(secrets, filepath.Base(path))
		if err := os.WriteFile(file, []byte(strings.Repeat("secret", 10)), 0o600); err != nil {
			t.Fatal(err)
		}
		args[i] = name + "=" + file
	}
	known := newConfig().settings
	for name, value := range env {
		flag, ok := strings.CutPrefix(name, "HUB_")
		if ok && known.Lookup(strings.ReplaceAll(strings.ToLower(flag), "_", "-")) == nil {
			t.Errorf("%s is the variable of no setting", name)
		}
		t.Setenv(name, value)
	}
	c := parseServerFlags(t, args...)
	if _, err := c.cluster.config(); err != nil {
		t.Error(err)
	}
	if err := c.admin.check(); err != nil {
		t.Error(err)
	}
	if !c.cluster.enabled() {
		t.Error("the hub is in no cluster")
	}
	return c
}

func TestDeploy_Kubernetes_HubsAreValid(t *testing.T) {
	manifests := readManifests(t, "kubernetes/hubs.yaml")
	set := findManifest(t, manifests, "StatefulSet", "hubs")
	pod := set.Spec.Template.Spec
	hub := pod.Containers[0]
	env := map[string]string{"POD_NAME": "hubs-0", "NATS_HUB_PASSWORD": "secret"}
	for _, v := range hub.Env {
		if v.Value != "" {
			env[v.Name] = expand(v.Value, env)
		}
	}
	for i, arg := range hub.Args {
		hub.Args[i] = expand(arg, env)
	}
	c := hubSettings(t, hub.Args, env)
	ports := map[string]int{}
	for _, p := range hub.Ports {
		ports[p.Name] = p.ContainerPort
	}
	_, admin, err := net.SplitHostPort(c.admin.addr)
	if ports["hub"] != c.port || strconv.Itoa(ports["admin"]) != admin || err != nil {
		t.Errorf("the container has the ports %v, the hub %d and %s", ports, c.port, c.admin.addr)
	}
	if ready, live := hub.ReadinessProbe.HTTPGet, hub.LivenessProbe.HTTPGet; ready.Path != "/readyz" || live.Path != "/healthz" || ready.Port != "admin" || live.Port != "admin" {
		t.Errorf("the probes are %v and %v", ready, live)
	}
	if grace := time.Duration(pod.GracePeriod) * time.Second; grace < c.drain.delay+c.drain.timeout+10*time.Second {
		t.Errorf("the grace period %v is too short for -drain-delay=%v and -drain=%v", grace, c.drain.delay, c.drain.timeout)
	}
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Error("service links set HUB_PORT")
	}
	if c.cluster.hub != "hubs-0" || set.Spec.ServiceName != "hubs" || c.cluster.address != "hubs-0.hubs:9999" {
		t.Errorf("hub %q at %q, service %q", c.cluster.hub, c.cluster.address, set.Spec.ServiceName)
	}
	for _, name := range []string{"hub", "hubs"} {
		for _, p := range findManifest(t, manifests, "Service", name).Spec.Ports {
			if ports[p.TargetPort] != p.Port {
				t.Errorf("the port %d of the service %s leads to %q", p.Port, name, p.TargetPort)
			}
		}
	}
	findManifest(t, manifests, "PodDisruptionBudget", "hubs")
	checkNATSHosts(t, c)
}

// expand replaces $(NAME) as Kubernetes does.
func expand(text string, env map[string]string) string {
	for name, value := range env {
		text = strings.ReplaceAll(text, "$("+name+")", value)
	}
	return text
}

// checkNATSHosts checks that the hub connects to the servers that nats.conf names.
func checkNATSHosts(t *testing.T, c *config) {
	t.Helper()
	var want []string
	for _, host := range regexp.MustCompile(`nats://([^:]+):6222`).FindAllSubmatch(readDeployFile(t, "nats/nats.conf"), -1) {
		want = append(want, "nats://hub:secret@"+string(host[1])+":4222")
	}
	if !slices.Equal(c.cluster.urls, want) {
		t.Errorf("the hub connects to %s, want %s", c.cluster.urls, want)
	}
}

func TestDeploy_Kubernetes_NATSIsValid(t *testing.T) {
	manifests := readManifests(t, "kubernetes/nats.yaml")
	set := findManifest(t, manifests, "StatefulSet", "nats")
	c := set.Spec.Template.Spec.Containers[0]
	if set.Spec.Replicas != 3 || set.Spec.ServiceName != "nats" {
		t.Errorf("%d replicas of the service %q", set.Spec.Replicas, set.Spec.ServiceName)
	}
	options := natsOptions(t, "nats-0")
	want := []int{options.Port, options.Cluster.Port, options.HTTPPort}
	for i, p := range c.Ports {
		if p.ContainerPort != want[i] {
			t.Errorf("port %s is %d, want %d", p.Name, p.ContainerPort, want[i])
		}
	}
	if want := "docker.io/library/nats:" + server.VERSION; c.Image != want {
		t.Errorf("the image is %s, the tests run with %s", c.Image, want)
	}
	findManifest(t, manifests, "Service", "nats")
	findManifest(t, manifests, "PodDisruptionBudget", "nats")
}

func TestDeploy_Compose_IsValid(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Image       string
			Environment map[string]string
			Ports       []string
			GracePeriod string `yaml:"stop_grace_period"`
		}
	}
	text := regexp.MustCompile(`\$\{NATS_HUB_PASSWORD[^}]*\}`).ReplaceAll(readDeployFile(t, "compose/compose.yaml"), []byte("secret"))
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		n := strconv.Itoa(i)
		t.Run(n, func(t *testing.T) {
			nats, hub := file.Services["nats-"+n], file.Services["hub-"+n]
			if want := "docker.io/library/nats:" + server.VERSION; nats.Image != want {
				t.Errorf("the image is %s, the tests run with %s", nats.Image, want)
			}
			if nats.Environment["NATS_NAME"] != "nats-"+n || nats.Environment["NATS_HUB_PASSWORD"] != "secret" {
				t.Errorf("NATS has the environment %v", nats.Environment)
			}
			c := hubSettings(t, nil, hub.Environment)
			if c.cluster.hub != "hub-"+n || len(hub.Ports) != 1 || hub.Ports[0] != strconv.Itoa(9999-i)+":"+strconv.Itoa(c.port) {
				t.Errorf("hub %q at %v", c.cluster.hub, hub.Ports)
			}
			if grace, err := time.ParseDuration(hub.GracePeriod); err != nil || grace < c.drain.delay+c.drain.timeout+10*time.Second {
				t.Errorf("the grace period %v is too short for -drain=%v", grace, c.drain.timeout)
			}
			checkNATSHosts(t, c)
		})
	}
}

// natsOptions returns the options of deploy/nats/nats.conf.
func natsOptions(t *testing.T, name string) *server.Options {
	t.Helper()
	t.Setenv("NATS_NAME", name)
	t.Setenv("NATS_HUB_PASSWORD", "secret")
	options, err := server.ProcessConfigFile(deployFile("nats/nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return options
}

// TestDeploy_NATS_ConnectsHubs starts three servers with deploy/nats/nats.conf at other ports. A
// hub joins with the permissions of the file, which are the minimum.
func TestDeploy_NATS_ConnectsHubs(t *testing.T) {
	dir := t.TempDir()
	ports := freePorts(t, 6)
	var routes []string
	for _, port := range ports[3:] {
		routes = append(routes, "nats://127.0.0.1:"+strconv.Itoa(port))
	}
	for i := range 3 {
		options := natsOptions(t, "nats-"+strconv.Itoa(i))
		options.Host, options.Port, options.HTTPPort = "127.0.0.1", ports[i], 0
		options.StoreDir = filepath.Join(dir, strconv.Itoa(i))
		options.Cluster.Host, options.Cluster.Port = "127.0.0.1", ports[3+i]
		options.Routes = server.RoutesFromStr(strings.Join(routes, ","))
		options.NoSigs, options.NoLog = true, true
		s, err := server.NewServer(options)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := natscluster.Join(ctx, natscluster.Config{
		URLs: []string{"nats://hub:secret@127.0.0.1:" + strconv.Itoa(ports[0])}, Name: "hub", HubName: "hub-0",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	publish, subscribe := natscluster.Permissions("hub")
	users := natsOptions(t, "nats-0").Users
	if len(users) != 1 {
		t.Fatalf("%d users", len(users))
	}
	for _, user := range users {
		p := user.Permissions
		if !slices.Equal(p.Publish.Allow, publish) || !slices.Equal(p.Subscribe.Allow, subscribe) {
			t.Errorf("the permissions are %s and %s, the minimum is %s and %s", p.Publish.Allow, p.Subscribe.Allow, publish, subscribe)
		}
	}
}

// freePorts returns n TCP ports that are free.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close() // after all are known, so that none comes twice
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
