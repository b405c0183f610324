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

// authFlags is what can be set about who may come in.
type authFlags struct {
	keysFile  string
	issuer    string
	audience  string
	leeway    time.Duration
	certsFile string
	classic   string
}

func (f *authFlags) addFlags(s *settings) {
	addSetting(s, &f.keysFile, "auth-keys", "", filePath(), "file with the keys by which tokens are known to be good:\npublic keys in PEM, a JWK set, or a secret in base64;\nwith it, nobody comes in without a token", reloadable)
	addSetting(s, &f.issuer, "auth-issuer", "", anyText(), "who must have issued a token (its claim iss)", reloadable)
	addSetting(s, &f.audience, "auth-audience", "", anyText(), "for whom a token must be (its claim aud)", reloadable)
	addSetting(s, &f.leeway, "auth-leeway", 30*time.Second, duration(0, time.Hour), "by how much the clock of who issues tokens may differ", reloadable)
	addSetting(s, &f.certsFile, "auth-certs", "", filePath(), "file that says, by their names, which certificates of\nclients may do what; with it, others do not come in", reloadable)
	addSetting(s, &f.classic, "classic", "auto", oneOf("auto", "on", "off"), "whether clients may speak version 1, which shows no token;\nauto: unless -auth-keys is set")
}

// tokensRequired reports whether nobody comes in without a token.
func (f *authFlags) tokensRequired() bool { return f.keysFile != "" }

// noClassic reports whether version 1 is not spoken.
func (f *authFlags) noClassic() bool {
	return f.classic == "off" || f.classic == "auto" && f.tokensRequired()
}

// authenticator lets in who shows a good token, a good certificate, or both.
type authenticator struct {
	logger *slog.Logger // nil: the server has not started
	policy atomic.Pointer[authPolicy]
}

// authPolicy are by what the gate knows whom to let in.
type authPolicy struct {
	keys         *tokens.Keys // nil: it asks for no token
	issuer       tokens.Issuer
	certRequired bool          // it asks for a certificate
	certs        *tokens.Certs // nil: any that was verified will do
}

// loadPolicy reads the files that are named.
func (f *authFlags) loadPolicy(certRequired bool) (policy *authPolicy, err error) {
	policy = &authPolicy{issuer: tokens.Issuer{Name: f.issuer, Audience: f.audience, Leeway: f.leeway}, certRequired: certRequired}
	switch {
	case !f.tokensRequired() && (f.issuer != "" || f.audience != ""):
		return nil, errors.New("-auth-issuer and -auth-audience are about tokens, which take -auth-keys")
	case f.certsFile != "" && !certRequired:
		return nil, errors.New("-auth-certs is about certificates of clients, for which -tls-client-ca asks")
	case f.certsFile != "" && f.tokensRequired():
		return nil, errors.New("-auth-certs and -auth-keys both say what a client may do: leave one away")
	case f.tokensRequired() && f.classic == "on":
		return nil, errors.New("-classic=on: clients of version 1 cannot show a token, which -auth-keys asks for")
	}
	if f.tokensRequired() {
		if policy.keys, err = tokens.LoadKeys(f.keysFile); err != nil {
			return nil, fmt.Errorf("-auth-keys: %w", err)
		}
	}
	if f.certsFile != "" {
		if policy.certs, err = tokens.LoadCerts(f.certsFile); err != nil {
			return nil, fmt.Errorf("-auth-certs: %w", err)
		}
	}
	return policy, nil
}

// prepareReload is the part of the configuration that is about access: see part.
func (a *authenticator) prepareReload(next *server) (apply func(), err error) {
	policy, err := next.auth.loadPolicy(next.tls.clientCA != "")
	if err != nil {
		return nil, err
	}
	if policy.keys != nil {
		next.settings.warnIgnored("-auth-keys="+next.auth.keysFile, policy.keys.Ignored())
	}
	if current := a.policy.Load(); a.logger != nil {
		switch {
		case (policy.keys != nil) != (current.keys != nil):
			return nil, errors.New("-auth-keys: only a restart begins or ends to ask for tokens")
		case policy.certRequired != current.certRequired:
			return nil, errors.New("-tls-client-ca: only a restart begins or ends to ask for certificates")
		}
	}
	return func() { a.setPolicy(policy) }, nil
}

// setPolicy lets in by these rules from now on, and says so if they are others than before.
func (a *authenticator) setPolicy(policy *authPolicy) {
	previous := a.policy.Swap(policy)
	if a.logger == nil || reflect.DeepEqual(previous, policy) {
		return
	}
	a.logger.Info("new rules of who may come in taken up", "tokens", policy.keys != nil, "certificates", policy.certRequired)
}

// authenticate is hub.Config.Authenticate. Where both are asked for, both must be good: the certificate opens
// the door, and the token says who comes in.
func (a *authenticator) authenticate(req hub.AuthRequest) (*hub.Permissions, error) {
	policy := a.policy.Load()
	var claims *tokens.Claims
	var err error
	if policy.certRequired {
		if claims, err = policy.certClaims(req.TLS); err != nil {
			return nil, err
		}
	}
	if policy.keys != nil {
		if req.Token == "" {
			return nil, errors.New("this hub asks for a token")
		}
		tokenClaims, err := policy.keys.Verify(req.Token, policy.issuer, time.Now())
		switch {
		case errors.Is(err, tokens.ErrExpired):
			return nil, fmt.Errorf("%w: %w", hub.ErrExpired, err)
		case err != nil:
			return nil, err
		}
		if claims != nil && claims.Expires.Before(tokenClaims.Expires) {
			tokenClaims.Expires = claims.Expires
		}
		claims = tokenClaims
	}
	return newPermissions(claims), nil
}

// certClaims returns what a certificate allows.
func (p *authPolicy) certClaims(state *tls.ConnectionState) (*tokens.Claims, error) {
	var chains [][]*x509.Certificate
	if state != nil {
		chains = state.VerifiedChains
	}
	if p.certs == nil {
		return tokens.ClaimsFromCert(chains)
	}
	return p.certs.Find(chains)
}

// newPermissions returns claims as the hub knows them.
func newPermissions(claims *tokens.Claims) *hub.Permissions {
	permissions := &hub.Permissions{
		Subject: claims.Subject, ID: claims.ID, Expires: claims.Expires, NoList: claims.NoList, NoWatch: claims.NoWatch, MaxBody: claims.MaxBody,
		MessageRate: claims.MessageRate, ByteRate: claims.ByteRate,
	}
	if claims.To != nil {
		permissions.CanSend = claims.CanSend
	}
	return permissions
}

// warnUnauthenticated says when anybody who reaches the hub may use it, unless only this machine can.
func (f *authFlags) warnUnauthenticated(logger *slog.Logger, addr net.Addr, clientCA string) {
	tcp, ok := addr.(*net.TCPAddr)
	if f.tokensRequired() || clientCA != "" || !ok || tcp.IP.IsLoopback() {
		return
	}
	logger.Warn("anybody who can reach this address can use the hub", "addr", addr.String(),
		"advice", "ask for tokens with -auth-keys (hubctl token makes keys for a first try), or for certificates with -tls-client-ca, or listen on -addr=localhost")
}

// maxTokenFile is how many bytes a file with a token may have: four times what a HELLO carries.
const maxTokenFile = 64 << 10

// tokenFlags is the token that a program shows.
type tokenFlags struct {
	token string
	file  string
}

func (f *tokenFlags) addFlags(s *settings) {
	addSetting(s, &f.token, "token", "", anyText(), "token to show to the hub; better in the environment or a\nfile, for others see the command line", secret)
	addSetting(s, &f.file, "token-file", "", filePath(), "file with the token to show to the hub, read at each\nconnection")
}

// validate returns what is wrong with it.
func (f *tokenFlags) validate() error {
	if f.token != "" && f.file != "" {
		return errors.New("-token and -token-file are two tokens: one can be shown")
	}
	return nil
}

// tokenFunc returns client.Options.GetToken; nil: there is none.
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
