package tokens

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/sechlol/go-message-hub/internal/keyfile"
)

const (
	// minSecretLen is the minimum length of an HMAC secret, in bytes: that of its hash (RFC 7518,
	// section 3.2).
	minSecretLen = 32

	// minRSABits is the minimum length of an RSA key, in bits (RFC 7518, section 3.3).
	minRSABits = 2048
)

// Keys are the keys that verify tokens. They are immutable and safe for concurrent use.
type Keys struct {
	keys    []key
	ignored []string
}

// ed25519Method is EdDSA with Ed25519, under its name of RFC 9864.
type ed25519Method struct{ *jwt.SigningMethodEd25519 }

// Alg implements jwt.SigningMethod.
func (ed25519Method) Alg() string { return "Ed25519" }

var methodEd25519 = ed25519Method{jwt.SigningMethodEdDSA}

// The JWT library finds algorithms only in its own table.
func init() {
	jwt.RegisterSigningMethod(methodEd25519.Alg(), func() jwt.SigningMethod { return methodEd25519 })
}

// key verifies tokens. Its type determines its algorithms, never the token: if a token could
// select HMAC for a public key, everyone who has the public key could sign.
type key struct {
	id        string // "": none
	methods   []string
	verifyKey any // of the type that the JWT library expects
}

// LoadKeys reads keys from a file of at most keyfile.MaxBytes. The file holds PEM with one or
// more public keys or certificates, a JWK set (RFC 7517), or an HMAC secret in base64.
// LoadKeys ignores keys that it cannot use, see Keys.Ignored, and returns an error if no key
// is left. Errors contain no secrets.
func LoadKeys(file string) (*Keys, error) {
	text, err := keyfile.Read(file, keyfile.MaxBytes)
	if err != nil {
		return nil, err
	}
	k, err := ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return k, nil
}

// ParseKeys is LoadKeys for the content of a file.
func ParseKeys(text []byte) (*Keys, error) {
	text, err := keyfile.Text(text)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSpace(text)
	var k Keys
	switch {
	case len(text) == 0:
		err = errors.New("empty file")
	case text[0] == '{':
		err = k.addJWKSet(text)
	case keyfile.IsPEM(text):
		k.addPEM(text)
	default:
		err = k.addSecret(text)
	}
	if err == nil && len(k.keys) == 0 {
		err = k.unusableError()
	}
	if err != nil {
		return nil, err
	}
	return &k, nil
}

// Ignored returns a text for each part of the file that is not used, with its name and the
// reason.
func (k *Keys) Ignored() []string { return k.ignored }

// ignore records that a key is not used.
func (k *Keys) ignore(name string, why error) {
	k.ignored = append(k.ignored, fmt.Sprintf("%s: %v", name, why))
}

// maxNamed is the maximum number of ignored keys in an error.
const maxNamed = 3

// unusableError returns an error with the reasons why no key can be used.
func (k *Keys) unusableError() error {
	const noKey = "no usable key"
	if len(k.ignored) == 0 {
		return errors.New(noKey)
	}
	named := k.ignored[:min(maxNamed, len(k.ignored))]
	more := ""
	if n := len(k.ignored) - len(named); n > 0 {
		more = fmt.Sprintf("; and %d more", n)
	}
	return errors.New(noKey + ": " + strings.Join(named, "; ") + more)
}

// addJWKSet adds the keys of a JWK set. It ignores keys of unknown types and for other uses,
// as section 5 of RFC 7517 says: issuers add keys of new types while the old ones are still in
// use.
func (k *Keys) addJWKSet(text []byte) error {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return errors.New("not a JWK set")
	}
	for i, text := range set.Keys {
		name := fmt.Sprintf("key %d", i+1)
		var params jwkParams
		if err := json.Unmarshal(text, &params); err != nil {
			k.ignore(name, errors.New("not a JWK"))
			continue
		}
		if params.ID != "" {
			name = fmt.Sprintf("key %d (kid %.60q)", i+1, params.ID)
		}
		public, err := params.decode(text)
		if err == nil {
			err = k.add(params.ID, params.Algorithm, public)
		}
		if err != nil {
			k.ignore(name, err)
		}
	}
	return nil
}

// jwkParams are the parameters of a JWK that describe its type and use.
type jwkParams struct {
	Type       string    `json:"kty"`
	Curve      string    `json:"crv"`
	Use        string    `json:"use"`
	Operations *[]string `json:"key_ops"`
	Algorithm  string    `json:"alg"`
	ID         string    `json:"kid"`
}

// decode returns the key in text. It does not return errors of the JOSE library, because they
// can quote a secret.
func (w *jwkParams) decode(text []byte) (any, error) {
	switch {
	case w.Use != "" && w.Use != "sig":
		return nil, fmt.Errorf("its use is %.60q, want \"sig\"", w.Use)
	case w.Operations != nil && !slices.Contains(*w.Operations, "verify"):
		return nil, errors.New("its key_ops lack verify")
	case w.Type == "":
		return nil, errors.New("kty is missing")
	case !slices.Contains([]string{"EC", "RSA", "oct", "OKP"}, w.Type):
		return nil, fmt.Errorf("unsupported kty %.60q", w.Type)
	case w.Type == "OKP" && w.Curve != "Ed25519":
		return nil, fmt.Errorf("unsupported curve %.60q", w.Curve)
	}
	var jwk jose.JSONWebKey
	if jwk.UnmarshalJSON(text) != nil {
		return nil, fmt.Errorf("invalid key of kty %s", w.Type)
	}
	return jwk.Key, nil
}

// addPEM adds the public keys of all PEM blocks in text.
func (k *Keys) addPEM(text []byte) {
	blocks, broken := keyfile.Blocks(text)
	for i, block := range blocks {
		public, err := parsePublicKey(block)
		if err == nil {
			err = k.add("", "", public)
		}
		if err != nil {
			k.ignore(fmt.Sprintf("key %d", i+1), err)
		}
	}
	if broken > 0 {
		k.ignored = append(k.ignored, keyfile.Undecoded(broken))
	}
}

// parsePublicKey returns the public key in a PEM block.
func parsePublicKey(block *pem.Block) (public any, err error) {
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = c.PublicKey
		}
	default:
		return nil, fmt.Errorf("it is a %.60s, want a PUBLIC KEY or a CERTIFICATE", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("it cannot be read as a %s: %w", block.Type, err)
	}
	return public, nil
}

func (k *Keys) addSecret(text []byte) error {
	secret, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		if secret, err = base64.RawURLEncoding.DecodeString(string(text)); err != nil {
			return errors.New("neither PEM nor a JWK set nor a secret in base64")
		}
	}
	return k.add("", "", secret)
}

// add adds a key for all algorithms of its type or, unless algorithm is "", for that one only.
func (k *Keys) add(id, algorithm string, public any) error {
	entry := key{id: id, verifyKey: public}
	switch public := public.(type) {
	case ed25519.PublicKey:
		entry.methods = []string{jwt.SigningMethodEdDSA.Alg(), methodEd25519.Alg()}
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			entry.methods = []string{jwt.SigningMethodES256.Alg()}
		case elliptic.P384():
			entry.methods = []string{jwt.SigningMethodES384.Alg()}
		case elliptic.P521():
			entry.methods = []string{jwt.SigningMethodES512.Alg()}
		default:
			return errors.New("unsupported curve: want P-256, P-384 or P-521")
		}
	case *rsa.PublicKey:
		if n := public.N.BitLen(); n < minRSABits {
			return fmt.Errorf("%d bits are too few, want at least %d", n, minRSABits)
		}
		entry.methods = []string{
			jwt.SigningMethodRS256.Alg(), jwt.SigningMethodRS384.Alg(), jwt.SigningMethodRS512.Alg(),
			jwt.SigningMethodPS256.Alg(), jwt.SigningMethodPS384.Alg(), jwt.SigningMethodPS512.Alg(),
		}
	case []byte:
		if len(public) < minSecretLen {
			return fmt.Errorf("a secret of %d bytes is too short, want at least %d", len(public), minSecretLen)
		}
		entry.methods = []string{jwt.SigningMethodHS256.Alg()}
	case ed25519.PrivateKey, *ecdsa.PrivateKey, *rsa.PrivateKey:
		return errors.New("it is a private key, want a public key")
	default:
		return errors.New("want a public key of Ed25519, ECDSA or RSA, or a secret")
	}
	if algorithm != "" && !slices.Contains(entry.methods, algorithm) {
		return fmt.Errorf("alg %.60q does not fit the key", algorithm)
	}
	// Both algorithm names of an Ed25519 key mean the same algorithm: both stay.
	if _, isEd25519 := public.(ed25519.PublicKey); algorithm != "" && !isEd25519 {
		entry.methods = []string{algorithm}
	}
	k.keys = append(k.keys, entry)
	return nil
}

// methods returns the algorithms of all keys.
func (k *Keys) methods() (names []string) {
	for _, entry := range k.keys {
		names = append(names, entry.methods...)
	}
	return names
}

// find returns the keys that can verify a token: those with the algorithm of the token and, if
// the token names a key id, with that id or without one.
func (k *Keys) find(t *jwt.Token) (any, error) {
	id, _ := t.Header["kid"].(string)
	var set jwt.VerificationKeySet
	for _, entry := range k.keys {
		if slices.Contains(entry.methods, t.Method.Alg()) && (id == "" || entry.id == "" || entry.id == id) {
			set.Keys = append(set.Keys, entry.verifyKey)
		}
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("no key")
	}
	return set, nil
}
