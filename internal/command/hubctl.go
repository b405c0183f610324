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
	ExitSome = 3 // some receivers got the message, and others did not
	ExitNone = 4 // no receiver got it
)

// verb is a subcommand of hubctl.
type verb struct {
	name string
	does string // for the list of subcommands

	// prepare makes its settings, and what runs it once they are set.
	prepare func() (*settings, func(Process) int)
}

// verbs are the subcommands, in the order of the usage.
func verbs() []verb {
	return []verb{
		{"listen", "print the messages that come", newListen},
		{"send", "send a message, and print what becomes of it", newSend},
		{"list", "print who is connected", newList},
		{"watch", "print who is connected, and then who comes and goes", newWatch},
		{"ping", "measure how long the hub takes to answer", newPing},
		{"token", "make keys and tokens, for a first try of access control", newToken},
		{"completion", "print a script that completes commands in a shell", newCompletion},
	}
}

// Hubctl is hubctl: it speaks to a hub for a person or a script, by one of its
// subcommands, and returns the exit code. ExitOK says that all went well and
// every receiver got what was sent, or that an interrupt has ended what goes on until
// then; ExitFailure that there was no hub, that it could not be kept, or that
// nobody knows what became of the message; ExitUsage that the command line was
// wrong. What a hub makes of a message for several receivers is told by ExitSome
// and ExitNone.
func Hubctl(p Process) int {
	if len(p.Args) == 0 {
		code := refuse(p, "a subcommand is missing")
		fmt.Fprintln(p.Stderr)
		printVerbs(p.Stderr)
		return code
	}
	first := p.Args[0]
	p.Args = p.Args[1:]
	switch strings.TrimLeft(first, "-") {
	case "h", "help":
		return help(p)
	case "version":
		fmt.Fprintln(p.Stdout, version(hubctl))
		return ExitOK
	}
	if strings.HasPrefix(first, "-") {
		return refuse(p, fmt.Sprintf("%s stands where the subcommand belongs: flags come behind it", shown(first)))
	}
	v, err := find(first)
	if err != nil {
		return refuse(p, err.Error())
	}
	s, run := v.prepare()
	if code, done := s.parse(p); done {
		return code
	}
	s.tellWarnings(p.Stderr)
	return run(p)
}

// find returns the subcommand of a name.
func find(name string) (verb, error) {
	all := verbs()
	i := slices.IndexFunc(all, func(v verb) bool { return v.name == name })
	if i < 0 {
		return verb{}, fmt.Errorf("%q is not a subcommand: there are %s and help", name, strings.Join(verbNames(), ", "))
	}
	return all[i], nil
}

func verbNames() (names []string) {
	for _, v := range verbs() {
		names = append(names, v.name)
	}
	return names
}

// help prints the usage of hubctl, or of the subcommand that is named.
func help(p Process) int {
	if len(p.Args) == 0 {
		printVerbs(p.Stdout)
		return ExitOK
	}
	v, err := find(p.Args[0])
	if err != nil {
		return refuse(p, err.Error())
	}
	s, _ := v.prepare()
	s.printUsage(p.Stdout)
	return ExitOK
}

// refuse says what is wrong with a command line that names no subcommand.
func refuse(p Process, problem string) int {
	fmt.Fprintf(p.Stderr, "%[1]s: %[2]s\n\"%[1]s -h\" tells what it can do\n", hubctl, problem)
	return ExitUsage
}

// printVerbs prints the usage of hubctl.
func printVerbs(w io.Writer) {
	fmt.Fprintf(w, "%[1]s speaks to a message hub from the command line.\n\nUsage: %[1]s SUBCOMMAND [flags]\n\n", hubctl)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range verbs() {
		fmt.Fprintf(table, "  %s\t%s\n", v.name, v.does)
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
