package command

import (
	"fmt"

	"github.com/sechlol/go-message-hub/internal/settings"
)

// The exit codes of all executables.
const (
	ExitOK      = 0
	ExitFailure = 1 // the settings were valid, but the work failed
	ExitUsage   = 2 // a flag, an environment variable or a line of the config file was invalid

	// ExitPipe reports that the reader of standard output has closed it. A shell shows the same
	// code for a program that SIGPIPE has killed.
	ExitPipe = 128 + 13
)

// ExitCodes returns the meanings of the exit codes of all executables, for manual pages.
func ExitCodes() []settings.ManItem {
	return []settings.ManItem{
		{Term: fmt.Sprint(ExitOK), Meaning: "Success."},
		{Term: fmt.Sprint(ExitFailure), Meaning: "Failure; standard error says why."},
		{Term: fmt.Sprint(ExitUsage), Meaning: "A flag, an environment variable or a line of the config file was invalid."},
		{Term: fmt.Sprint(ExitPipe), Meaning: "The reader of standard output has closed it."},
	}
}
