package hubctl

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/internal/tokens"
	"github.com/sechlol/go-message-hub/wire"
)

// tokenCommand is the configuration of hubctl token.
type tokenCommand struct {
	settings    *settings.Settings
	keyFile     string
	subject     string
	id          int
	lifetime    time.Duration
	sendTo      string
	noList      bool
	noWatch     bool
	maxBody     int64
	messageRate float64
	byteRate    int64
	issuer      tokens.Issuer
}

const tokenNotes = `Without -sub it makes a key pair: the file of -sign-key holds the private key, which
signs tokens, and the same name with .pub holds the public key for start_server
-auth-keys. With -sub it signs a token with that key and prints it. It is meant for
testing: in production, let your identity provider sign the tokens.`

func newTokenCommand() (*settings.Settings, func(command.Process) int) {
	c := &tokenCommand{settings: newSettings("token", "hubctl token makes keys, and tokens that a hub with these keys accepts.")}
	s := c.settings
	settings.Add(s, &c.keyFile, "sign-key", "hub-key.pem", settings.FilePath(), "file of the private key")
	settings.Add(s, &c.subject, "sub", "", settings.AnyText(), "subject of the token; empty: make a key pair")
	settings.Add(s, &c.id, "id", 0, settings.IntRange(0, math.MaxInt), "id of the client; 0: the hub assigns one")
	settings.Add(s, &c.lifetime, "good-for", time.Hour, settings.Duration(time.Second, 10*365*24*time.Hour), "lifetime of the token")
	settings.Add(s, &c.sendTo, "send", "all", settings.AnyText(), "receivers that the client may send to: ids and ranges such\nas 2,5-10, or all, or none")
	settings.Add(s, &c.noList, "no-list", false, settings.Boolean(), "the client may not list the connected clients")
	settings.Add(s, &c.noWatch, "no-watch", false, settings.Boolean(), "the client may not watch presence")
	settings.Add(s, &c.maxBody, "max-body", 0, settings.Size(0, wire.MaxBodyLimit), "maximum body size that the client may send; 0: the limit of\nthe hub")
	settings.Add(s, &c.messageRate, "rate-messages", 0, settings.PerSecond(), "average messages per second that the client may send; 0: the\nlimit of the hub")
	settings.Add(s, &c.byteRate, "rate-bytes", 0, settings.Size(0, 1<<50), "average bytes per second that the client may send; 0: the\nlimit of the hub")
	settings.Add(s, &c.issuer.Name, "issuer", "", settings.AnyText(), "issuer of the token, as start_server -auth-issuer")
	settings.Add(s, &c.issuer.Audience, "audience", "", settings.AnyText(), "audience of the token, as start_server -auth-audience")
	s.AddCommonFlags()
	s.Notes = tokenNotes
	return s, c.run
}

// run makes a token or a key pair and returns the exit code.
func (c *tokenCommand) run(p command.Process) int {
	result, err := c.makeToken()
	if err != nil {
		fmt.Fprintf(p.Stderr, "%s: %v\n", c.settings.Program, err)
		return command.ExitFailure
	}
	return p.Print(c.settings, result+"\n")
}

func (c *tokenCommand) makeToken() (string, error) {
	if c.subject == "" {
		return c.makeKeys()
	}
	ranges, err := parseRanges(c.sendTo)
	if err != nil {
		return "", fmt.Errorf("-send=%s: %w", c.sendTo, err)
	}
	signer, err := tokens.LoadSigner(c.keyFile)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("-sign-key: %w; run without -sub to make a key pair", err)
	}
	if err != nil {
		return "", err
	}
	now := time.Now()
	return signer.Sign(&tokens.Claims{
		Subject: c.subject, ID: uint64(c.id), Expires: now.Add(c.lifetime), To: ranges,
		NoList: c.noList, NoWatch: c.noWatch, MaxBody: int(c.maxBody), MessageRate: c.messageRate, ByteRate: float64(c.byteRate),
	}, c.issuer, now)
}

// makeKeys writes a key pair to two new files. It does not overwrite existing files.
func (c *tokenCommand) makeKeys() (string, error) {
	private, public, err := tokens.GenerateKey()
	if err != nil {
		return "", err
	}
	if err := writeNewFile(c.keyFile, private, 0o600); err != nil {
		return "", err
	}
	if err := writeNewFile(c.keyFile+".pub", public, 0o644); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s signs tokens: keep it secret\n%s verifies tokens: start_server -auth-keys=%s",
		c.keyFile, c.keyFile+".pub", c.keyFile+".pub"), nil
}

func writeNewFile(file string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w and was not overwritten; -sub makes a token with it, another -sign-key another key pair", err)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// parseRanges returns the ids that the client can send to. Nil means all ids.
func parseRanges(text string) ([]tokens.Range, error) {
	ranges := []tokens.Range{}
	switch text {
	case "all":
		return nil, nil
	case "none", "":
		return ranges, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		r, err := tokens.ParseRange(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}
