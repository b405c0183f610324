package settings

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Completion describes a program with subcommands for the completion scripts of shells.
type Completion struct {
	Program  string
	TopFlags []string // flags that are valid in place of a subcommand
	Entries  []CompletionEntry
}

// CompletionEntry describes a subcommand for completion.
type CompletionEntry struct {
	Name, Summary string
	Flags         []*Setting
	Operand       string
	Choices       []string // of the operand; nil: any text
}

// NewCompletionEntry returns the entry of a subcommand with the settings s.
func NewCompletionEntry(name, summary string, s *Settings) CompletionEntry {
	return CompletionEntry{name, summary, s.list, s.OperandUsage, s.OperandChoices}
}

// WriteBashCompletion writes the script for bash. The script separates words by newlines,
// because a complete word ends with a space and a flag that needs a value does not. bash 3 has
// no compopt and does not complete file names.
func WriteBashCompletion(w io.Writer, c Completion) {
	top := slices.Clone(c.TopFlags)
	for _, e := range c.Entries {
		top = append(top, e.Name)
	}
	fmt.Fprintf(w, `# Completion of %[1]s for bash, made by "%[1]s completion bash".
_%[1]s() {
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
`, c.Program)
	writeBashCase(w, "1:*", appendSpaces(top))
	for _, e := range c.Entries {
		for _, f := range e.Flags {
			writeBashFlag(w, "*:"+e.Name+":-"+f.Name, f)
		}
	}
	for _, e := range c.Entries {
		words := appendSpaces(e.Choices)
		for _, f := range e.Flags {
			words = append(words, bashFlagWord(f))
		}
		writeBashCase(w, "*:"+e.Name+":*", words)
	}
	fmt.Fprintf(w, `	esac
	COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o nospace -F _%[1]s %[1]s
`, c.Program)
}

// writeBashFlag writes the case that completes the value of a flag. The value of a flag that
// can be bare needs an equals sign before it.
func writeBashFlag(w io.Writer, flag string, f *Setting) {
	switch {
	case f.Bare:
		writeBashCase(w, flag+"=", appendSpaces(f.Choices))
	case f.IsPath:
		fmt.Fprintf(w, "\t%[1]s | %[1]s=) compopt -o default -o filenames 2>/dev/null ;;\n", flag)
	default:
		writeBashCase(w, flag+" | "+flag+"=", appendSpaces(f.Choices))
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

func bashFlagWord(f *Setting) string {
	if f.Bare {
		return "-" + f.Name + " "
	}
	return "-" + f.Name + "="
}

// WriteZshCompletion writes the script for zsh, which also shows the descriptions.
func WriteZshCompletion(w io.Writer, c Completion) {
	fmt.Fprintf(w, `#compdef %[1]s
# Completion of %[1]s for zsh, made by "%[1]s completion zsh".
_%[1]s() {
	local -a subcommands=(
`, c.Program)
	for _, e := range c.Entries {
		fmt.Fprintf(w, "\t\t%s\n", zshQuote(e.Name+":"+e.Summary))
	}
	fmt.Fprintf(w, `	)
	if (( CURRENT == 2 )); then
		_describe subcommand subcommands
		compadd -- %s
		return
	fi
	case $words[2] in
`, strings.Join(c.TopFlags, " "))
	for _, e := range c.Entries {
		fmt.Fprintf(w, "\t%s)\n\t\t_arguments '1:subcommand:'", e.Name)
		for _, f := range e.Flags {
			fmt.Fprintf(w, " \\\n\t\t\t%s", zshQuote(zshFlag(f)))
		}
		if e.Operand != "" {
			fmt.Fprintf(w, " \\\n\t\t\t%s", zshQuote("2:"+zshText(e.Operand)+":"+zshWords(e.Choices)))
		}
		fmt.Fprint(w, " ;;\n")
	}
	fmt.Fprintf(w, `	esac
}
if [[ $funcstack[1] == _%[1]s ]]; then
	_%[1]s "$@"
else
	compdef _%[1]s %[1]s
fi
`, c.Program)
}

// zshFlag returns a flag as an argument of _arguments.
func zshFlag(f *Setting) string {
	usage := "[" + zshText(strings.ReplaceAll(f.Usage, "\n", " ")) + "]"
	switch {
	case f.Bare:
		return "-" + f.Name + usage
	case f.IsPath:
		return "-" + f.Name + "=" + usage + ":file:_files"
	}
	return "-" + f.Name + "=" + usage + ":" + f.Name + ":" + zshWords(f.Choices)
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
