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
	// minSecretLen is the shortest secret that signs, in bytes: as long as its hash
	// (RFC 7518, section 3.2).
	minSecretLen = 32

	// minRSABits is the shortest RSA key, in bits (RFC 7518, section 3.3).
	minRSABits = 2048
)

// Keys are those by which tokens are known to be good. They do not change, and may be used
// concurrently.
type Keys struct {
	keys    []key
	ignored []string
}

// ed25519Method is EdDSA with Ed25519 under the name that says so: RFC 9864.
type ed25519Method struct{ *jwt.SigningMethodEd25519 }

// Alg implements jwt.SigningMethod.
func (ed25519Method) Alg() string { return "Ed25519" }

var methodEd25519 = ed25519Method{jwt.SigningMethodEdDSA}

// The library looks for algorithms in a table of its own.
func init() {
	jwt.RegisterSigningMethod(methodEd25519.Alg(), func() jwt.SigningMethod { return methodEd25519 })
}

// key is one of them. Its algorithms are its own, and never what the token says: a public key
// that is taken for a secret would let anybody in.
type key struct {
	id        string // "": none
	methods   []string
	verifyKey any // as the library wants it
}

// LoadKeys reads what tokens are verified by from a file of at most keyfile.MaxBytes: PEM with one
// or more public keys or certificates, a JWK set (RFC 7517), or the secret of an HMAC as text in
// base64. Keys that it cannot use are ignored, see Keys.Ignored; a file without one that it can use
// is an error. What is secret stays out of errors.
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

// ParseKeys is LoadKeys for what a file holds.
func ParseKeys(text []byte) (*Keys, error) {
	text, err := keyfile.Text(text)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSpace(text)
	var k Keys
	switch {
	case len(text) == 0:
		err = errors.New("it is empty")
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

// Ignored returns a sentence for each part of the file that is not used, which names it and says
// why.
func (k *Keys) Ignored() []string { return k.ignored }

// ignore notes that a key is not used.
func (k *Keys) ignore(name string, why error) {
	k.ignored = append(k.ignored, fmt.Sprintf("%s: %v", name, why))
}

// maxNamed is how many of the keys that are not used an error names.
const maxNamed = 3

// unusableError says why no key can be used.
func (k *Keys) unusableError() error {
	const noKey = "it holds no key that verifies"
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

// addJWKSet adds the keys of a JWK set. Those that are not understood, or are for something else, are
// ignored, as RFC 7517 says in section 5: issuers add new kinds while the old ones still count.
func (k *Keys) addJWKSet(text []byte) error {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return errors.New("it is no JWK set")
	}
	for i, text := range set.Keys {
		name := fmt.Sprintf("key %d", i+1)
		var params jwkParams
		if err := json.Unmarshal(text, &params); err != nil {
			k.ignore(name, errors.New("it is not a JWK"))
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

// jwkParams is what a JWK says of its kind and purpose.
type jwkParams struct {
	Type       string    `json:"kty"`
	Curve      string    `json:"crv"`
	Use        string    `json:"use"`
	Operations *[]string `json:"key_ops"`
	Algorithm  string    `json:"alg"`
	ID         string    `json:"kid"`
}

// decode returns the key itself, or an error in words of ours: those of the library may quote what
// is secret.
func (w *jwkParams) decode(text []byte) (any, error) {
	switch {
	case w.Use != "" && w.Use != "sig":
		return nil, fmt.Errorf("it is for %.60q, not for signatures", w.Use)
	case w.Operations != nil && !slices.Contains(*w.Operations, "verify"):
		return nil, errors.New("its key_ops do not name verify")
	case w.Type == "":
		return nil, errors.New("it has no kty")
	case !slices.Contains([]string{"EC", "RSA", "oct", "OKP"}, w.Type):
		return nil, fmt.Errorf("its kty %.60q is not understood", w.Type)
	case w.Type == "OKP" && w.Curve != "Ed25519":
		return nil, fmt.Errorf("its curve %.60q is not understood", w.Curve)
	}
	var jwk jose.JSONWebKey
	if jwk.UnmarshalJSON(text) != nil {
		return nil, fmt.Errorf("it is not a whole key of kty %s", w.Type)
	}
	return jwk.Key, nil
}

// addPEM adds the public keys of PEM.
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

// parsePublicKey returns the public key in a block of PEM.
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
		return nil, fmt.Errorf("it is a %.60s: what verifies is a PUBLIC KEY, and private keys belong to those who sign", block.Type)
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
			return errors.New("it is neither PEM nor a JWK set nor a secret in base64")
		}
	}
	return k.add("", "", secret)
}

// add adds a key for the algorithms of its kind, or for one of them if that is named.
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
			return errors.New("its curve is not one of P-256, P-384 and P-521")
		}
	case *rsa.PublicKey:
		if n := public.N.BitLen(); n < minRSABits {
			return fmt.Errorf("its %d bits are too few, %d are needed", n, minRSABits)
		}
		entry.methods = []string{
			jwt.SigningMethodRS256.Alg(), jwt.SigningMethodRS384.Alg(), jwt.SigningMethodRS512.Alg(),
			jwt.SigningMethodPS256.Alg(), jwt.SigningMethodPS384.Alg(), jwt.SigningMethodPS512.Alg(),
		}
	case []byte:
		if len(public) < minSecretLen {
			return fmt.Errorf("a secret of %d bytes is too short, %d are needed", len(public), minSecretLen)
		}
		entry.methods = []string{jwt.SigningMethodHS256.Alg()}
	case ed25519.PrivateKey, *ecdsa.PrivateKey, *rsa.PrivateKey:
		return errors.New("it is a private key, and private keys belong to those who sign")
	default:
		return errors.New("it is no public key of Ed25519, ECDSA or RSA, and no secret")
	}
	if algorithm != "" && !slices.Contains(entry.methods, algorithm) {
		return fmt.Errorf("%.60q is no algorithm for it", algorithm)
	}
	if _, isEd25519 := public.(ed25519.PublicKey); algorithm != "" && !isEd25519 { // its two names mean one algorithm
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

// find returns the keys that may have signed a token: those that go with its algorithm and, if it
// names one, with its id.
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
