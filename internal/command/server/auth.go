package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/internal/tokens"
)

// authFlags are the settings of authentication.
type authFlags struct {
	keysFile  string
	issuer    string
	audience  string
	leeway    time.Duration
	certsFile string
	classic   string
}

func (f *authFlags) addFlags(s *settings.Settings) {
	settings.Add(s, &f.keysFile, "auth-keys", "", settings.FilePath(), "file with the keys that verify tokens: public keys in PEM,\na JWK set, or a secret in base64; clients then need a token", settings.Reloadable)
	settings.Add(s, &f.issuer, "auth-issuer", "", settings.AnyText(), "required issuer of a token (claim iss); empty: any", settings.Reloadable)
	settings.Add(s, &f.audience, "auth-audience", "", settings.AnyText(), "required audience of a token (claim aud); empty: any", settings.Reloadable)
	settings.Add(s, &f.leeway, "auth-leeway", 30*time.Second, settings.Duration(0, time.Hour), "maximum difference from the clock of the token issuer", settings.Reloadable)
	settings.Add(s, &f.certsFile, "auth-certs", "", settings.FilePath(), "JSON file that maps names in client certificates to\npermissions; clients with other certificates are rejected", settings.Reloadable)
	settings.Add(s, &f.classic, "classic", "auto", settings.OneOf("auto", "on", "off"), "whether version 1 clients, which send no token, are\naccepted; auto: unless -auth-keys is set")
}

// tokensRequired reports whether clients need a token.
func (f *authFlags) tokensRequired() bool { return f.keysFile != "" }

// noClassic reports whether version 1 clients are rejected.
func (f *authFlags) noClassic() bool {
	return f.classic == "off" || f.classic == "auto" && f.tokensRequired()
}

// authenticator accepts clients with a valid token, a valid certificate, or both, as its
// policy requires. Its policy can be replaced while clients authenticate.
type authenticator struct {
	logger *slog.Logger // nil until the server has started
	policy atomic.Pointer[authPolicy]
}

// authPolicy is what the authenticator requires of clients.
type authPolicy struct {
	keys         *tokens.Keys // nil: no token is required
	issuer       tokens.Issuer
	certRequired bool          // a client certificate is required
	certs        *tokens.Certs // nil: any verified certificate is accepted
}

// loadPolicy reads the files of the settings and returns the policy. certRequired says whether
// the hub requires client certificates.
func (f *authFlags) loadPolicy(certRequired bool) (policy *authPolicy, err error) {
	policy = &authPolicy{issuer: tokens.Issuer{Name: f.issuer, Audience: f.audience, Leeway: f.leeway}, certRequired: certRequired}
	switch {
	case !f.tokensRequired() && (f.issuer != "" || f.audience != ""):
		return nil, errors.New("-auth-issuer and -auth-audience require -auth-keys")
	case f.certsFile != "" && !certRequired:
		return nil, errors.New("-auth-certs requires -tls-client-ca")
	case f.certsFile != "" && f.tokensRequired():
		return nil, errors.New("-auth-certs and -auth-keys both define permissions: remove one")
	case f.tokensRequired() && f.classic == "on":
		return nil, errors.New("-classic=on: version 1 clients cannot send the token that -auth-keys requires")
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

// prepare is the reloadStep of authentication. certRequired says whether the hub requires client
// certificates.
func (a *authenticator) prepare(next *authFlags, certRequired bool, warnings *settings.Warnings) (apply func(), err error) {
	policy, err := next.loadPolicy(certRequired)
	if err != nil {
		return nil, err
	}
	if policy.keys != nil {
		warnings.AddIgnored("-auth-keys="+next.keysFile, policy.keys.Ignored())
	}
	if current := a.policy.Load(); a.logger != nil {
		switch {
		case (policy.keys != nil) != (current.keys != nil):
			return nil, errors.New("-auth-keys: enabling or disabling tokens requires a restart")
		case policy.certRequired != current.certRequired:
			return nil, errors.New("-tls-client-ca: enabling or disabling client certificates requires a restart")
		}
	}
	return func() { a.setPolicy(policy) }, nil
}

// setPolicy applies policy to all later authentications. It logs a line if policy differs from
// the previous policy.
func (a *authenticator) setPolicy(policy *authPolicy) {
	previous := a.policy.Swap(policy)
	if a.logger == nil || reflect.DeepEqual(previous, policy) {
		return
	}
	a.logger.Info("authentication settings reloaded", "tokens", policy.keys != nil, "certificates", policy.certRequired)
}

// authenticate is hub.Config.Authenticate. If both a certificate and a token are required,
// both must be valid: the certificate admits the client, and the token sets its permissions.
// The permissions expire with the first of the two.
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
			return nil, errors.New("a token is required")
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

// certClaims returns the claims of the client certificate in state.
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

// newPermissions returns the permissions that claims grant.
func newPermissions(claims *tokens.Claims) *hub.Permissions {
	permissions := &hub.Permissions{
		Subject: claims.Subject, ID: claims.ID, Expires: claims.Expires, NoList: claims.NoList, NoWatch: claims.NoWatch,
		MaxBody:     claims.MaxBody,
		MessageRate: claims.MessageRate, ByteRate: claims.ByteRate,
	}
	if claims.To != nil {
		permissions.CanSend = claims.CanSend
	}
	return permissions
}

// warnUnauthenticated logs a warning if the hub requires neither tokens nor certificates and
// other machines can reach addr. localFlag is the setting with which they cannot.
func (f *authFlags) warnUnauthenticated(logger *slog.Logger, addr net.Addr, localFlag, clientCA string) {
	tcp, ok := addr.(*net.TCPAddr)
	if f.tokensRequired() || clientCA != "" || !ok || tcp.IP.IsLoopback() {
		return
	}
	logger.Warn("any client that can reach this address can use the hub", "addr", addr.String(),
		"advice", "require tokens with -auth-keys (hubctl token makes keys for testing), or certificates with -tls-client-ca, or listen on "+localFlag)
}
