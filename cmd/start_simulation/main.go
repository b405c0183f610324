// Command start_simulation puts a message hub under load and verifies every message.
// start_simulation -h lists its flags.
package main

import (
	"os"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/simulation"
)

func main() { os.Exit(command.Main(simulation.Run)) }
