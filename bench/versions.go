package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// clientLibraries are, by system, the modules of the client libraries in the load program.
var clientLibraries = map[string]string{
	"nats":      "github.com/nats-io/nats.go",
	"chat":      "github.com/gobwas/ws",
	"redis":     "github.com/redis/go-redis/v9",
	"mosquitto": "github.com/eclipse/paho.mqtt.golang",
}

// serverVersion returns the version of a system's server: the version of its module if it is
// built here, otherwise the version that the program prints.
func serverVersion(ctx context.Context, system string) (string, error) {
	switch system {
	case "nats":
		return moduleVersion(ctx, natsServerModule)
	case "chat":
		const library = "github.com/coder/websocket"
		version, err := moduleVersion(ctx, library)
		return "with " + library + " " + version, err
	}
	path, err := findProgram(findSystem(system).program)
	if err != nil {
		return "", err
	}
	flag := "--version"
	if system == "mosquitto" {
		flag = "-h" // prints the version but exits with an error, therefore the error is ignored
	}
	out, _ := exec.CommandContext(ctx, path, flag).CombinedOutput()
	version := versionPattern.Find(out)
	if version == nil {
		return "", fmt.Errorf("%s %s prints no version: %q", path, flag, out)
	}
	return string(version), nil
}

// moduleVersion returns the version of a module that is built here.
func moduleVersion(ctx context.Context, module string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", module).Output()
	return strings.TrimSpace(string(out)), err
}

var versionPattern = regexp.MustCompile(`\d+(\.\d+)+`)
