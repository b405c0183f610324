// Command documents writes the files of a Debian or RPM package that are generated from the
// programs: the manual pages, the config file of the service, and the completions of hubctl.
// Its arguments are the folder to write to and the text in the footer of the pages:
//
//	documents FOLDER BUILD
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
