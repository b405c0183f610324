// Command start_server runs a message hub. start_server -h lists its flags.
package main

import (
	"os"

	"github.com/sechlol/go-message-hub/internal/command"
)

func main() { os.Exit(command.Main(command.Server)) }
