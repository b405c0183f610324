package connect

import (
	"context"
	"errors"
	"strings"

	"github.com/sechlol/go-message-hub/internal/keyfile"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// maxTokenFile is the maximum size of a token file, in bytes: four times the largest HELLO
// frame (16 KiB), which carries the token.
const maxTokenFile = 64 << 10

// tokenFlags are the settings that name the token of a client program.
type tokenFlags struct {
	token string
	file  string
}

func (f *tokenFlags) addTo(s *settings.Settings) {
	settings.Add(s, &f.token, "token", "", settings.AnyText(), "token for the hub; prefer the environment or a file, because\nother users can see the command line", settings.Secret)
	settings.Add(s, &f.file, "token-file", "", settings.FilePath(), "file with the token for the hub, read at each connection")
}

// validate returns an error if two tokens are set.
func (f *tokenFlags) validate() error {
	if f.token != "" && f.file != "" {
		return errors.New("-token and -token-file exclude each other: set one of them")
	}
	return nil
}

// tokenFunc returns client.Options.GetToken, or nil if no token is set.
func (f *tokenFlags) tokenFunc() func(context.Context) (string, error) {
	switch {
	case f.file != "":
		return func(context.Context) (string, error) {
			text, err := keyfile.Read(f.file, maxTokenFile)
			return strings.TrimSpace(string(text)), err
		}
	case f.token != "":
		return func(context.Context) (string, error) { return f.token, nil }
	}
	return nil
}
