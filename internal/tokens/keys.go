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
	"io"
	"os"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

const (
	// secretLeast is the shortest secret that signs, in bytes: as long as its hash
	// (RFC 7518, section 3.2).
	secretLeast = 32

	// rsaLeast is the shortest RSA key, in bits (RFC 7518, section 3.3).
	rsaLeast = 2048

	// fileMost is how many bytes a file of keys may have.
	fileMost = 1 << 20
)

// Keys are those by which tokens are known to be good. They do not change, and may be used
// concurrently.
type Keys struct{ list []key }

// key is one of them. Its algorithms are its own, and never what the token says: a public key
// that is taken for a secret would let anybody in.
type key struct {
	id      string // "": none
	methods []string
	verify  any // as the library wants it
}

// LoadKeys reads what tokens are verified by from a file: PEM with one or more public keys or
// certificates, a JWK set (RFC 7517), or the secret of an HMAC as text in base64. What is secret
// stays out of errors.
func LoadKeys(file string) (*Keys, error) {
	text, err := readFile(file, fileMost)
	var k *Keys
	if err == nil {
		k, err = ParseKeys(text)
	}
	if err != nil {
		return nil, ofFile(file, err)
	}
	return k, nil
}

// readFile reads a file that may have so many bytes.
func readFile(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	return text, err
}

// ofFile says in which file something is wrong.
func ofFile(file string, err error) error {
	var named *os.PathError
	if errors.As(err, &named) {
		return err
	}
	return fmt.Errorf("%s: %w", file, err)
}

// ParseKeys is LoadKeys for what a file holds.
func ParseKeys(text []byte) (*Keys, error) {
	text = bytes.TrimSpace(text)
	var k Keys
	var err error
	switch {
	case len(text) == 0:
		err = errors.New("it is empty")
	case text[0] == '{':
		err = k.addSet(text)
	case bytes.HasPrefix(text, []byte("-----BEGIN ")):
		err = k.addPEM(text)
	default:
		err = k.addSecret(text)
	}
	if err == nil && len(k.list) == 0 {
		err = errors.New("it holds no key that verifies")
	}
	if err != nil {
		return nil, err
	}
	return &k, nil
}

func (k *Keys) addSet(text []byte) error {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		return errors.New("it is no JWK set")
	}
	for i, one := range set.Keys {
		if one.Use != "" && one.Use != "sig" {
			continue
		}
		if err := k.add(one.KeyID, one.Algorithm, one.Key); err != nil {
			return fmt.Errorf("key %d: %w", i+1, err)
		}
	}
	return nil
}

func (k *Keys) addPEM(text []byte) error {
	for i := 1; ; i++ {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil
		}
		text = rest
		var public any
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			public, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				public = c.PublicKey
			}
		default:
			err = fmt.Errorf("it is a %s: what verifies is a PUBLIC KEY, and private keys belong to those who sign", block.Type)
		}
		if err == nil {
			err = k.add("", "", public)
		}
		if err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
	}
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
func (k *Keys) add(id, only string, public any) error {
	one := key{id: id, verify: public}
	switch public := public.(type) {
	case ed25519.PublicKey:
		one.methods = []string{jwt.SigningMethodEdDSA.Alg()}
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			one.methods = []string{jwt.SigningMethodES256.Alg()}
		case elliptic.P384():
			one.methods = []string{jwt.SigningMethodES384.Alg()}
		case elliptic.P521():
			one.methods = []string{jwt.SigningMethodES512.Alg()}
		default:
			return errors.New("its curve is not one of P-256, P-384 and P-521")
		}
	case *rsa.PublicKey:
		if n := public.N.BitLen(); n < rsaLeast {
			return fmt.Errorf("its %d bits are too few, %d are needed", n, rsaLeast)
		}
		one.methods = []string{
			jwt.SigningMethodRS256.Alg(), jwt.SigningMethodRS384.Alg(), jwt.SigningMethodRS512.Alg(),
			jwt.SigningMethodPS256.Alg(), jwt.SigningMethodPS384.Alg(), jwt.SigningMethodPS512.Alg(),
		}
	case []byte:
		if len(public) < secretLeast {
			return fmt.Errorf("a secret of %d bytes is too short, %d are needed", len(public), secretLeast)
		}
		one.methods = []string{jwt.SigningMethodHS256.Alg()}
	default:
		return errors.New("it is no public key of Ed25519, ECDSA or RSA, and no secret")
	}
	if only != "" {
		if !slices.Contains(one.methods, only) {
			return fmt.Errorf("%q is no algorithm for it", only)
		}
		one.methods = []string{only}
	}
	k.list = append(k.list, one)
	return nil
}

// methods returns the algorithms of all keys.
func (k *Keys) methods() (all []string) {
	for _, one := range k.list {
		all = append(all, one.methods...)
	}
	return all
}

// find returns the keys that may have signed a token: those that go with its algorithm and, if it
// names one, with its id.
func (k *Keys) find(t *jwt.Token) (any, error) {
	id, _ := t.Header["kid"].(string)
	var set jwt.VerificationKeySet
	for _, one := range k.list {
		if slices.Contains(one.methods, t.Method.Alg()) && (id == "" || one.id == "" || one.id == id) {
			set.Keys = append(set.Keys, one.verify)
		}
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("no key")
	}
	return set, nil
}
