// Command documents writes the files that are generated from the settings of the programs.
//
//	documents FOLDER BUILD    writes what a package has besides its programs: manual pages, the
//	                          config file of the service, and the completions of hubctl. BUILD
//	                          is the version in the foot of the pages.
//	documents FILE            writes docs/REFERENCE.md to FILE
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sechlol/go-message-hub/internal/command"
)

func main() {
	switch len(os.Args) {
	case 2:
		write(os.Args[1], reference())
	case 3:
		for _, d := range documents(os.Args[2]) {
			write(filepath.Join(os.Args[1], d.name), d.text)
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: documents FOLDER BUILD, or documents FILE")
		os.Exit(command.ExitUsage)
	}
}

// write writes a file. It ends the program when that fails.
func write(name, text string) {
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "documents:", err)
		os.Exit(command.ExitFailure)
	}
}
