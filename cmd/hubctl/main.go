// Command hubctl is a command-line client of a message hub: it receives and sends messages,
// and lists the connected clients. hubctl -h lists its subcommands.
package main

import (
	"os"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/hubctl"
)

func main() { os.Exit(command.Main(hubctl.Run)) }
