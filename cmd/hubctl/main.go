// Command hubctl speaks to a message hub from the command line: it listens,
// sends, and shows who is connected. hubctl -h lists what it does.
package main

import (
	"os"

	"github.com/sechlol/go-message-hub/internal/command"
)

func main() { os.Exit(command.Main(command.Hubctl)) }
