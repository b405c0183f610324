// Package hubctl is hubctl: a command-line client of a message hub. One file has one subcommand.
// hubctl must stay small, and imports neither the hub nor its admin address nor its traces.
package hubctl

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// subcommand is a subcommand of hubctl.
type subcommand struct {
	name    string
	summary string // shown in the list of subcommands

	// setup returns the settings of the subcommand and the function that runs the subcommand
	// after the settings are read.
	setup func() (*settings.Settings, func(command.Process) int)
}

// subcommands returns all subcommands, in the order of the usage.
func subcommands() []subcommand {
	return []subcommand{
		{"listen", "print received messages", newListenCommand},
		{"send", "send a message and print its fate for each receiver", newSendCommand},
		{"list", "print the connected clients", newListCommand},
		{"nodes", "print the hubs of a cluster", newNodesCommand},
		{"watch", "print the connected clients, then joins and leaves", newWatchCommand},
		{"ping", "measure the round-trip time to the hub", newPingCommand},
		{"token", "make keys and tokens for testing access control", newTokenCommand},
		{"completion", "print the completion script for a shell", func() (*settings.Settings, func(command.Process) int) {
			return newCompletionCommand(Completion)
		}},
	}
}

// Run is hubctl: it runs one of its subcommands, which talks to a hub for a person or a script,
// and returns the exit code. ExitOK of package command means success: all receivers got the
// message, or an interrupt ended a subcommand that runs until then. ExitFailure means that
// there was no connection to a hub, that the connection was lost, or that the fate of the
// message is unknown. ExitUsage means that the command line was invalid. ExitPartial and
// ExitUndelivered tell the result of a message that did not reach all receivers.
func Run(p command.Process) int {
	if len(p.Args) == 0 {
		code := printUsageError(p, "a subcommand is missing")
		fmt.Fprintln(p.Stderr)
		printSubcommands(p.Stderr)
		return code
	}
	name := p.Args[0]
	p.Args = p.Args[1:]
	switch strings.TrimLeft(name, "-") {
	case "h", "help":
		return printHelp(p)
	case "version":
		fmt.Fprintln(p.Stdout, command.Version(program))
		return command.ExitOK
	}
	if strings.HasPrefix(name, "-") {
		return printUsageError(p, fmt.Sprintf("%s: the subcommand comes first, then its flags", settings.Quote(name)))
	}
	cmd, err := findSubcommand(name)
	if err != nil {
		return printUsageError(p, err.Error())
	}
	s, run := cmd.setup()
	if code, done := p.Parse(s); done {
		return code
	}
	emitWarnings(s, p.Stderr)
	return run(p)
}

// Completion describes the subcommands, and help, for the completion scripts of shells.
func Completion() settings.Completion {
	c := settings.Completion{Program: program, TopFlags: []string{"-h", "-version"}}
	for _, cmd := range subcommands() {
		s, _ := cmd.setup()
		c.Entries = append(c.Entries, settings.NewCompletionEntry(cmd.name, cmd.summary, s))
	}
	c.Entries = append(c.Entries, settings.CompletionEntry{
		Name: "help", Summary: "print the flags of a subcommand", Operand: "subcommand", Choices: subcommandNames(),
	})
	return c
}

// ManPage returns the manual page of hubctl.
func ManPage() settings.ManPage {
	page := settings.ManPage{
		Name: program, Section: 1, About: "command-line client of a message hub",
		ExitCodes: append(command.ExitCodes(),
			settings.ManItem{Term: fmt.Sprint(ExitPartial), Meaning: "send: only some receivers got the message."},
			settings.ManItem{Term: fmt.Sprint(ExitUndelivered), Meaning: "send: no receiver got it."}),
		Examples: []settings.ManItem{
			{Term: "hubctl listen", Meaning: "prints received messages; the first line on standard error names its id."},
			{Term: "hubctl send -to=2,3 hello", Meaning: "sends to two clients and prints the fate for each."},
			{Term: "hubctl nodes -admin=hub.example:9990 -admin-token-file=token", Meaning: "prints the hubs of the cluster of a hub."},
			{Term: "hubctl ping -n=1 -timeout=2s", Meaning: "reports by its exit code whether a hub answers."},
		},
		SeeAlso: "start_simulation(1), start_server(8)",
	}
	for _, cmd := range subcommands() {
		s, _ := cmd.setup()
		page.Programs = append(page.Programs, settings.ManProgram{Heading: s.Program, Settings: s})
	}
	return page
}

// findSubcommand returns the subcommand with the given name.
func findSubcommand(name string) (subcommand, error) {
	list := subcommands()
	i := slices.IndexFunc(list, func(cmd subcommand) bool { return cmd.name == name })
	if i < 0 {
		return subcommand{}, fmt.Errorf("%q is not a subcommand: the subcommands are %s and help", name, strings.Join(subcommandNames(), ", "))
	}
	return list[i], nil
}

func subcommandNames() (names []string) {
	for _, cmd := range subcommands() {
		names = append(names, cmd.name)
	}
	return names
}

// printHelp prints the usage of hubctl, or of the subcommand in p.Args.
func printHelp(p command.Process) int {
	if len(p.Args) == 0 {
		printSubcommands(p.Stdout)
		return command.ExitOK
	}
	cmd, err := findSubcommand(p.Args[0])
	if err != nil {
		return printUsageError(p, err.Error())
	}
	s, _ := cmd.setup()
	settings.WriteUsage(p.Stdout, s)
	return command.ExitOK
}

// printUsageError reports an invalid command line without a subcommand.
func printUsageError(p command.Process, problem string) int {
	fmt.Fprintf(p.Stderr, "%[1]s: %[2]s\n\"%[1]s -h\" lists all subcommands\n", program, problem)
	return command.ExitUsage
}

// printSubcommands prints the usage of hubctl.
func printSubcommands(w io.Writer) {
	fmt.Fprintf(w, "%[1]s is a command-line client of a message hub.\n\nUsage: %[1]s SUBCOMMAND [flags]\n\n", program)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, cmd := range subcommands() {
		fmt.Fprintf(table, "  %s\t%s\n", cmd.name, cmd.summary)
	}
	table.Flush()
	fmt.Fprintf(w, `
"%[1]s SUBCOMMAND -h" and "%[1]s help SUBCOMMAND" list the flags of a subcommand,
"%[1]s -version" prints the version. The exit code is 0 on success, 1 on failure,
and 2 for an invalid command line; "%[1]s send" has more exit codes. When the
reader of standard output closes it, as "| head -1" does, %[1]s closes its
connection and exits with 141, without a message.
`, program)
}
