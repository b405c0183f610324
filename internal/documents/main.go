// Command documents writes what a package has besides its programs and knows from them: the
// manual pages, the config file of the service, and the completions of hubctl. It takes the
// folder to write them to, and what the foot of the pages says: documents FOLDER BUILD.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sechlol/go-message-hub/internal/command"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: documents FOLDER BUILD")
		os.Exit(command.ExitUsage)
	}
	for _, d := range command.Documents(os.Args[2]) {
		if err := os.WriteFile(filepath.Join(os.Args[1], d.Name), []byte(d.Text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "documents:", err)
			os.Exit(command.ExitFailure)
		}
	}
}
