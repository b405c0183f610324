// Command start_server runs a message hub. start_server -h lists its flags.
package main

import (
	"os"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/server"
)

func main() { os.Exit(command.Main(server.Run)) }
