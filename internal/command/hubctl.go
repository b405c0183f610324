package command

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

const (
	hubctl       = "hubctl"
	hubctlPrefix = "HUBCTL" // of its environment variables
)

// The exit codes of hubctl send beyond those of all executables.
const (
	ExitPartial     = 3 // some receivers got the message, and others did not
	ExitUndelivered = 4 // no receiver got it
)

// subcommand is a subcommand of hubctl.
type subcommand struct {
	name    string
	summary string // for the list of subcommands

	// setup makes its settings, and what runs it once they are set.
	setup func() (*settings, func(Process) int)
}

// subcommands are the subcommands, in the order of the usage.
func subcommands() []subcommand {
	return []subcommand{
		{"listen", "print the messages that come", newListenCommand},
		{"send", "send a message, and print what becomes of it", newSendCommand},
		{"list", "print who is connected", newListCommand},
		{"watch", "print who is connected, and then who comes and goes", newWatchCommand},
		{"ping", "measure how long the hub takes to answer", newPingCommand},
		{"token", "make keys and tokens, for a first try of access control", newTokenCommand},
		{"completion", "print a script that completes commands in a shell", newCompletionCommand},
	}
}

// Hubctl is hubctl: it speaks to a hub for a person or a script, by one of its
// subcommands, and returns the exit code. ExitOK says that all went well and
// every receiver got what was sent, or that an interrupt has ended what goes on until
// then; ExitFailure that there was no hub, that it could not be kept, or that
// nobody knows what became of the message; ExitUsage that the command line was
// wrong. What a hub makes of a message for several receivers is told by ExitPartial
// and ExitUndelivered.
func Hubctl(p Process) int {
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
		fmt.Fprintln(p.Stdout, version(hubctl))
		return ExitOK
	}
	if strings.HasPrefix(name, "-") {
		return printUsageError(p, fmt.Sprintf("%s stands where the subcommand belongs: flags come behind it", quoted(name)))
	}
	cmd, err := findSubcommand(name)
	if err != nil {
		return printUsageError(p, err.Error())
	}
	s, run := cmd.setup()
	if code, done := s.parse(p); done {
		return code
	}
	s.emitWarnings(p.Stderr)
	return run(p)
}

// findSubcommand returns the subcommand of a name.
func findSubcommand(name string) (subcommand, error) {
	list := subcommands()
	i := slices.IndexFunc(list, func(cmd subcommand) bool { return cmd.name == name })
	if i < 0 {
		return subcommand{}, fmt.Errorf("%q is not a subcommand: there are %s and help", name, strings.Join(subcommandNames(), ", "))
	}
	return list[i], nil
}

func subcommandNames() (names []string) {
	for _, cmd := range subcommands() {
		names = append(names, cmd.name)
	}
	return names
}

// printHelp prints the usage of hubctl, or of the subcommand that is named.
func printHelp(p Process) int {
	if len(p.Args) == 0 {
		printSubcommands(p.Stdout)
		return ExitOK
	}
	cmd, err := findSubcommand(p.Args[0])
	if err != nil {
		return printUsageError(p, err.Error())
	}
	s, _ := cmd.setup()
	s.printUsage(p.Stdout)
	return ExitOK
}

// printUsageError says what is wrong with a command line that names no subcommand.
func printUsageError(p Process, problem string) int {
	fmt.Fprintf(p.Stderr, "%[1]s: %[2]s\n\"%[1]s -h\" tells what it can do\n", hubctl, problem)
	return ExitUsage
}

// printSubcommands prints the usage of hubctl.
func printSubcommands(w io.Writer) {
	fmt.Fprintf(w, "%[1]s speaks to a message hub from the command line.\n\nUsage: %[1]s SUBCOMMAND [flags]\n\n", hubctl)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, cmd := range subcommands() {
		fmt.Fprintf(table, "  %s\t%s\n", cmd.name, cmd.summary)
	}
	table.Flush()
	fmt.Fprintf(w, `
"%[1]s SUBCOMMAND -h" and "%[1]s help SUBCOMMAND" tell the flags of one of them,
"%[1]s -version" tells what was built. It ends with 0 when all went well, with 1
when something did not, and with 2 when the command line was wrong;
"%[1]s send" has more to say. When the reader of its output closes that, as
"| head -1" does, it says goodbye to the hub and ends with 141, silently.
`, hubctl)
}
