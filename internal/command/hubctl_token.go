package command

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/internal/tokens"
	"github.com/sechlol/go-message-hub/wire"
)

// tokenMaker is hubctl token.
type tokenMaker struct {
	settings *settings
	key      string
	subject  string
	id       int
	good     time.Duration
	to       string
	noList   bool
	noWatch  bool
	maxBody  int64
	messages float64
	bytes    int64
	from     tokens.Issuer
}

const tokenNotes = `Without -sub it makes a pair of keys: FILE keeps the private key, which signs, and
FILE.pub the public one for start_server -auth-keys. With -sub it signs a token by
that key and prints it. It is meant for a first try: where there is something that
knows who people are, let that sign the tokens.`

func newToken() (*settings, func(Process) int) {
	c := &tokenMaker{settings: newSettings(hubctl+" token", hubctlPrefix, "hubctl token makes keys, and tokens that a hub takes which knows those.")}
	s := c.settings
	add(s, &c.key, "sign-key", "hub-key.pem", path(), "file of the private key")
	add(s, &c.subject, "sub", "", text(), "who shows the token; without it a pair of keys is made")
	add(s, &c.id, "id", 0, whole(0, math.MaxInt), "id of the client; 0: the hub gives it one")
	add(s, &c.good, "good-for", time.Hour, span(time.Second, 10*365*24*time.Hour), "how long the token is good")
	add(s, &c.to, "send", "all", text(), "to whom the client may send: ids and ranges such as\n2,5-10, or all, or none")
	add(s, &c.noList, "no-list", false, yesNo(), "the client may not ask who is connected")
	add(s, &c.noWatch, "no-watch", false, yesNo(), "nor who comes and goes")
	add(s, &c.maxBody, "max-body", 0, size(0, wire.BodyMost), "largest body that it may send; 0: what the hub allows")
	add(s, &c.messages, "rate-messages", 0, perSecond(), "messages that it may send in a second; 0: likewise")
	add(s, &c.bytes, "rate-bytes", 0, size(0, 1<<50), "bytes that it may send in a second; 0: likewise")
	add(s, &c.from.Name, "issuer", "", text(), "who issues the token: start_server -auth-issuer")
	add(s, &c.from.Audience, "audience", "", text(), "for whom it is: start_server -auth-audience")
	s.addCommon()
	s.notes = tokenNotes
	return s, c.run
}

// run makes what is asked for.
func (c *tokenMaker) run(p Process) int {
	result, err := c.make()
	if err != nil {
		fmt.Fprintf(p.Stderr, "%s: %v\n", c.settings.program, err)
		return ExitFailure
	}
	return c.settings.show(p, result+"\n")
}

func (c *tokenMaker) make() (string, error) {
	if c.subject == "" {
		return c.makeKeys()
	}
	to, err := parseReceivers(c.to)
	if err != nil {
		return "", fmt.Errorf("-send=%s: %w", c.to, err)
	}
	signer, err := tokens.LoadSigner(c.key)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("-sign-key: %w; without -sub a pair of keys is made", err)
	}
	if err != nil {
		return "", err
	}
	now := time.Now()
	return signer.Sign(&tokens.Claims{
		Subject: c.subject, ID: uint64(c.id), Until: now.Add(c.good), To: to,
		NoList: c.noList, NoWatch: c.noWatch, MaxBody: int(c.maxBody), Messages: c.messages, Bytes: float64(c.bytes),
	}, c.from, now)
}

// makeKeys writes a pair of keys to files that are not there yet.
func (c *tokenMaker) makeKeys() (string, error) {
	private, public, err := tokens.GenerateKey()
	if err != nil {
		return "", err
	}
	if err := writeNew(c.key, private, 0o600); err != nil {
		return "", err
	}
	if err := writeNew(c.key+".pub", public, 0o644); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s signs: keep it secret\n%s verifies: start_server -auth-keys=%s", c.key, c.key+".pub", c.key+".pub"), nil
}

func writeNew(file string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w, and stays; -sub makes a token with it, another -sign-key another pair of keys", err)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// parseReceivers reads to whom one may send; nil: to all.
func parseReceivers(text string) ([]tokens.Range, error) {
	to := []tokens.Range{}
	switch text {
	case "all":
		return nil, nil
	case "none", "":
		return to, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		r, err := tokens.ParseRange(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		to = append(to, r)
	}
	return to, nil
}
