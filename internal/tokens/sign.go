package tokens

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sechlol/go-message-hub/internal/keyfile"
)

// GenerateKey returns a new key pair of Ed25519, in PEM: a private key for a Signer and a
// public key for the hub.
func GenerateKey() (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, err
	}
	publicDER, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}), nil
}

// Signer signs tokens, for first steps without an issuer and for tests.
type Signer struct{ key ed25519.PrivateKey }

// LoadSigner reads an Ed25519 private key from a PEM file.
func LoadSigner(file string) (*Signer, error) {
	text, err := keyfile.Read(file, keyfile.MaxBytes)
	if err != nil {
		return nil, err
	}
	s, err := ParseSigner(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// ParseSigner is LoadSigner for the content of a file.
func ParseSigner(text []byte) (*Signer, error) {
	text, err := keyfile.Text(text)
	if err != nil {
		return nil, err
	}
	blocks, _ := keyfile.Blocks(text)
	i := slices.IndexFunc(blocks, func(b *pem.Block) bool { return b.Type == "PRIVATE KEY" })
	if i < 0 {
		return nil, errors.New("no private key in PEM")
	}
	private, err := x509.ParsePKCS8PrivateKey(blocks[i].Bytes)
	if err != nil {
		return nil, errors.New("the private key cannot be parsed")
	}
	key, ok := private.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("the private key is not an Ed25519 key")
	}
	return &Signer{key}, nil
}

// Sign returns a token with these claims that is issued at now. It ignores issuer.Leeway.
func (s *Signer) Sign(c *Claims, issuer Issuer, now time.Time) (string, error) {
	claims := jwt.MapClaims{"sub": c.Subject, "iat": now.Unix(), "exp": c.Expires.Unix()}
	if issuer.Name != "" {
		claims["iss"] = issuer.Name
	}
	if issuer.Audience != "" {
		claims["aud"] = issuer.Audience
	}
	if c.ID != 0 {
		claims["hub_id"] = fmt.Sprint(c.ID)
	}
	if c.To != nil {
		to := []string{}
		for _, r := range c.To {
			to = append(to, r.String())
		}
		claims["hub_send"] = to
	}
	for name, denied := range map[string]bool{"hub_list": c.NoList, "hub_watch": c.NoWatch} {
		if denied {
			claims[name] = false
		}
	}
	if c.MaxBody != 0 {
		claims["hub_max_body"] = c.MaxBody
	}
	if c.MessageRate != 0 {
		claims["hub_messages_per_second"] = c.MessageRate
	}
	if c.ByteRate != 0 {
		claims["hub_bytes_per_second"] = c.ByteRate
	}
	return jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims).SignedString(s.key)
}

// String returns the range in the syntax of ParseRange.
func (r Range) String() string {
	if r.First == r.Last {
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}
