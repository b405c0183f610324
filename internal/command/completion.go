package command

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// The shells that have a completion script.
const (
	bash = "bash"
	zsh  = "zsh"
)

func newCompletionCommand() (*settings, func(Process) int) {
	s := newSettings("hubctl completion", hubctlPrefix,
		"hubctl completion prints a script that lets a shell complete the subcommands of hubctl, their\n"+
			"flags, and the values of these flags.")
	s.operandChoices = []string{bash, zsh}
	s.operandUsage = strings.Join(s.operandChoices, "|")
	s.addCommonFlags()
	s.notes = `For bash, in ~/.bashrc:  source <(hubctl completion bash)
For zsh, in ~/.zshrc after compinit:  source <(hubctl completion zsh)`
	return s, func(p Process) int { return printCompletion(p, s) }
}

// printCompletion prints the script for the shell that the operand names.
func printCompletion(p Process, s *settings) int {
	scripts := map[string]func(io.Writer, []completionEntry){bash: writeBashCompletion, zsh: writeZshCompletion}
	if len(s.operands) == 0 {
		return s.printUsageError(p, fmt.Errorf("the shell is missing: choose %s", strings.Join(s.operandChoices, " or ")))
	}
	shell := s.operands[0]
	script := scripts[shell]
	if script == nil {
		return s.printUsageError(p, fmt.Errorf("there is no script for %q: choose %s", shell, strings.Join(s.operandChoices, " or ")))
	}
	var text strings.Builder
	script(&text, completionEntries())
	return s.printOutput(p, text.String())
}

// completionEntry describes a subcommand for completion.
type completionEntry struct {
	name, summary string
	flags         []*setting
	operand       string
	choices       []string // of the operand; nil: any text
}

// completionEntries returns an entry for each subcommand, and for help.
func completionEntries() (entries []completionEntry) {
	for _, cmd := range subcommands() {
		s, _ := cmd.setup()
		entries = append(entries, completionEntry{cmd.name, cmd.summary, s.list, s.operandUsage, s.operandChoices})
	}
	return append(entries, completionEntry{name: "help", summary: "print the flags of a subcommand", operand: "subcommand", choices: subcommandNames()})
}

// topFlags are the flags that are valid in place of a subcommand.
var topFlags = []string{"-h", "-version"}

// writeBashCompletion writes the script for bash. The script separates words by newlines,
// because a complete word ends with a space and a flag that needs a value does not. bash 3 has
// no compopt and does not complete file names.
func writeBashCompletion(w io.Writer, entries []completionEntry) {
	top := slices.Clone(topFlags)
	for _, c := range entries {
		top = append(top, c.name)
	}
	fmt.Fprint(w, `# Completion of hubctl for bash, made by "hubctl completion bash".
_hubctl() {
	local IFS=$'\n' words= sign= flag=
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
	if [[ $word == = ]]; then
		flag=$before sign== word=
	elif [[ $before == = ]]; then
		flag=${COMP_WORDS[COMP_CWORD-2]} sign==
	else
		flag=$before
	fi
	case $COMP_CWORD:${COMP_WORDS[1]}:${flag/#--/-}$sign in
`)
	writeBashCase(w, "1:*", appendSpaces(top))
	for _, c := range entries {
		for _, f := range c.flags {
			writeBashFlag(w, "*:"+c.name+":-"+f.name, f)
		}
	}
	for _, c := range entries {
		words := appendSpaces(c.choices)
		for _, f := range c.flags {
			words = append(words, bashFlagWord(f))
		}
		writeBashCase(w, "*:"+c.name+":*", words)
	}
	fmt.Fprint(w, `	esac
	COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o nospace -F _hubctl hubctl
`)
}

// writeBashFlag writes the case that completes the value of a flag. The value of a boolean
// flag needs an equals sign before it.
func writeBashFlag(w io.Writer, flag string, f *setting) {
	switch {
	case f.isBool:
		writeBashCase(w, flag+"=", appendSpaces(f.choices))
	case f.isPath:
		fmt.Fprintf(w, "\t%[1]s | %[1]s=) compopt -o default -o filenames 2>/dev/null ;;\n", flag)
	default:
		writeBashCase(w, flag+" | "+flag+"=", appendSpaces(f.choices))
	}
}

func writeBashCase(w io.Writer, pattern string, words []string) {
	fmt.Fprintf(w, "\t%s) words=%s ;;\n", pattern, bashQuote(words))
}

// bashQuote returns words, separated by newlines, as one quoted word of bash.
func bashQuote(words []string) string {
	return "$'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`).Replace(strings.Join(words, "\n")) + "'"
}

// appendSpaces returns words with a space after each, which completes the word.
func appendSpaces(words []string) []string {
	spaced := make([]string, len(words))
	for i, word := range words {
		spaced[i] = word + " "
	}
	return spaced
}

func bashFlagWord(f *setting) string {
	if f.isBool {
		return "-" + f.name + " "
	}
	return "-" + f.name + "="
}

// writeZshCompletion writes the script for zsh, which also shows the descriptions.
func writeZshCompletion(w io.Writer, entries []completionEntry) {
	fmt.Fprint(w, `#compdef hubctl
# Completion of hubctl for zsh, made by "hubctl completion zsh".
_hubctl() {
	local -a subcommands=(
`)
	for _, c := range entries {
		fmt.Fprintf(w, "\t\t%s\n", zshQuote(c.name+":"+c.summary))
	}
	fmt.Fprintf(w, `	)
	if (( CURRENT == 2 )); then
		_describe subcommand subcommands
		compadd -- %s
		return
	fi
	case $words[2] in
`, strings.Join(topFlags, " "))
	for _, c := range entries {
		fmt.Fprintf(w, "\t%s)\n\t\t_arguments '1:subcommand:'", c.name)
		for _, f := range c.flags {
			fmt.Fprintf(w, " \\\n\t\t\t%s", zshQuote(zshFlag(f)))
		}
		if c.operand != "" {
			fmt.Fprintf(w, " \\\n\t\t\t%s", zshQuote("2:"+zshText(c.operand)+":"+zshWords(c.choices)))
		}
		fmt.Fprint(w, " ;;\n")
	}
	fmt.Fprint(w, `	esac
}
if [[ $funcstack[1] == _hubctl ]]; then
	_hubctl "$@"
else
	compdef _hubctl hubctl
fi
`)
}

// zshFlag returns a flag as an argument of _arguments.
func zshFlag(f *setting) string {
	usage := "[" + zshText(strings.ReplaceAll(f.usage, "\n", " ")) + "]"
	switch {
	case f.isBool:
		return "-" + f.name + usage
	case f.isPath:
		return "-" + f.name + "=" + usage + ":file:_files"
	}
	return "-" + f.name + "=" + usage + ":" + f.name + ":" + zshWords(f.choices)
}

func zshWords(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return "(" + strings.Join(words, " ") + ")"
}

// zshText escapes the characters of text that are special to _arguments.
func zshText(text string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `[`, `\[`, `]`, `\]`).Replace(text)
}

func zshQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
