package command

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/keyfile"
	"github.com/sechlol/go-message-hub/internal/tokens"
)

// access is what can be set about who may come in.
type access struct {
	keys     string
	issuer   string
	audience string
	leeway   time.Duration
	certs    string
	classic  string
}

func (c *access) add(s *settings) {
	add(s, &c.keys, "auth-keys", "", path(), "file with the keys by which tokens are known to be good:\npublic keys in PEM, a JWK set, or a secret in base64;\nwith it, nobody comes in without a token", reloadable)
	add(s, &c.issuer, "auth-issuer", "", text(), "who must have issued a token (its claim iss)", reloadable)
	add(s, &c.audience, "auth-audience", "", text(), "for whom a token must be (its claim aud)", reloadable)
	add(s, &c.leeway, "auth-leeway", 30*time.Second, span(0, time.Hour), "by how much the clock of who issues tokens may differ", reloadable)
	add(s, &c.certs, "auth-certs", "", path(), "file that says, by their names, which certificates of\nclients may do what; with it, others do not come in", reloadable)
	add(s, &c.classic, "classic", "auto", oneOf("auto", "on", "off"), "whether clients may speak version 1, which shows no token;\nauto: unless -auth-keys is set")
}

// closed reports whether nobody comes in without a token.
func (c *access) closed() bool { return c.keys != "" }

// noClassic reports whether version 1 is not spoken.
func (c *access) noClassic() bool { return c.classic == "off" || c.classic == "auto" && c.closed() }

// gate lets in who shows a good token, a good certificate, or both.
type gate struct {
	logger *slog.Logger // nil: the server has not started
	now    atomic.Pointer[rules]
}

// rules are by what the gate knows whom to let in.
type rules struct {
	keys   *tokens.Keys // nil: it asks for no token
	from   tokens.Issuer
	mutual bool          // it asks for a certificate
	certs  *tokens.Certs // nil: any that was verified will do
}

// read reads the files that are named.
func (c *access) read(mutual bool) (r *rules, err error) {
	r = &rules{from: tokens.Issuer{Name: c.issuer, Audience: c.audience, Leeway: c.leeway}, mutual: mutual}
	switch {
	case !c.closed() && (c.issuer != "" || c.audience != ""):
		return nil, errors.New("-auth-issuer and -auth-audience are about tokens, which take -auth-keys")
	case c.certs != "" && !mutual:
		return nil, errors.New("-auth-certs is about certificates of clients, for which -tls-client-ca asks")
	case c.certs != "" && c.closed():
		return nil, errors.New("-auth-certs and -auth-keys both say what a client may do: leave one away")
	case c.closed() && c.classic == "on":
		return nil, errors.New("-classic=on: clients of version 1 cannot show a token, which -auth-keys asks for")
	}
	if c.closed() {
		if r.keys, err = tokens.LoadKeys(c.keys); err != nil {
			return nil, fmt.Errorf("-auth-keys: %w", err)
		}
	}
	if c.certs != "" {
		if r.certs, err = tokens.LoadCerts(c.certs); err != nil {
			return nil, fmt.Errorf("-auth-certs: %w", err)
		}
	}
	return r, nil
}

// follow is the part of the configuration that is about access: see part.
func (g *gate) follow(next *server) (apply func(), err error) {
	r, err := next.access.read(next.tls.clientCA != "")
	if err != nil {
		return nil, err
	}
	if r.keys != nil {
		next.settings.warnIgnored("-auth-keys="+next.access.keys, r.keys.Ignored())
	}
	if now := g.now.Load(); g.logger != nil {
		switch {
		case (r.keys != nil) != (now.keys != nil):
			return nil, errors.New("-auth-keys: only a restart begins or ends to ask for tokens")
		case r.mutual != now.mutual:
			return nil, errors.New("-tls-client-ca: only a restart begins or ends to ask for certificates")
		}
	}
	return func() { g.use(r) }, nil
}

// use lets in by these rules from now on, and says so if they are others than before.
func (g *gate) use(r *rules) {
	before := g.now.Swap(r)
	if g.logger == nil || reflect.DeepEqual(before, r) {
		return
	}
	g.logger.Info("new rules of who may come in taken up", "tokens", r.keys != nil, "certificates", r.mutual)
}

// admit is hub.Config.Admit. Where both are asked for, both must be good: the certificate opens
// the door, and the token says who comes in.
func (g *gate) admit(a hub.Applicant) (*hub.Grant, error) {
	r := g.now.Load()
	var by *tokens.Claims
	var err error
	if r.mutual {
		if by, err = r.vouched(a.TLS); err != nil {
			return nil, err
		}
	}
	if r.keys != nil {
		if a.Token == "" {
			return nil, errors.New("this hub asks for a token")
		}
		c, err := r.keys.Verify(a.Token, r.from, time.Now())
		switch {
		case errors.Is(err, tokens.ErrExpired):
			return nil, fmt.Errorf("%w: %w", hub.ErrExpired, err)
		case err != nil:
			return nil, err
		}
		if by != nil && by.Until.Before(c.Until) {
			c.Until = by.Until
		}
		by = c
	}
	return grantOf(by), nil
}

// vouched returns what a certificate allows.
func (r *rules) vouched(secure *tls.ConnectionState) (*tokens.Claims, error) {
	var chains [][]*x509.Certificate
	if secure != nil {
		chains = secure.VerifiedChains
	}
	if r.certs == nil {
		return tokens.FromCert(chains)
	}
	return r.certs.Find(chains)
}

// grantOf returns claims as the hub knows them.
func grantOf(c *tokens.Claims) *hub.Grant {
	grant := &hub.Grant{
		Subject: c.Subject, ID: c.ID, Until: c.Until, NoList: c.NoList, NoWatch: c.NoWatch, MaxBody: c.MaxBody,
		MessageRate: c.Messages, ByteRate: c.Bytes,
	}
	if c.To != nil {
		grant.May = c.May
	}
	return grant
}

// warnOfStrangers says when anybody who reaches the hub may use it, unless only this machine can.
func (c *access) warnOfStrangers(logger *slog.Logger, at net.Addr, clientCA string) {
	tcp, ok := at.(*net.TCPAddr)
	if c.closed() || clientCA != "" || !ok || tcp.IP.IsLoopback() {
		return
	}
	logger.Warn("anybody who can reach this address can use the hub", "addr", at.String(),
		"advice", "ask for tokens with -auth-keys (hubctl token makes keys for a first try), or for certificates with -tls-client-ca, or listen on -addr=localhost")
}

// maxTokenFile is how many bytes a file with a token may have: four times what a HELLO carries.
const maxTokenFile = 64 << 10

// pass is the token that a program shows.
type pass struct {
	token string
	file  string
}

func (p *pass) add(s *settings) {
	add(s, &p.token, "token", "", text(), "token to show to the hub; better in the environment or a\nfile, for others see the command line", secret)
	add(s, &p.file, "token-file", "", path(), "file with the token to show to the hub, read at each\nconnection")
}

// check returns what is wrong with it.
func (p *pass) check() error {
	if p.token != "" && p.file != "" {
		return errors.New("-token and -token-file are two tokens: one can be shown")
	}
	return nil
}

// show returns client.Options.Token; nil: there is none.
func (p *pass) show() func(context.Context) (string, error) {
	switch {
	case p.file != "":
		return func(context.Context) (string, error) {
			text, err := keyfile.Read(p.file, maxTokenFile)
			return strings.TrimSpace(string(text)), err
		}
	case p.token != "":
		return func(context.Context) (string, error) { return p.token, nil }
	}
	return nil
}
