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

// GenerateKey makes a key pair of Ed25519, in PEM: the private key for those who sign, the public
// one for the hub.
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

// Signer makes tokens, for a first try and for tests.
type Signer struct{ key ed25519.PrivateKey }

// LoadSigner reads the private key of Ed25519 from a file in PEM.
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

// ParseSigner is LoadSigner for what a file holds.
func ParseSigner(text []byte) (*Signer, error) {
	text, err := keyfile.Text(text)
	if err != nil {
		return nil, err
	}
	blocks, _ := keyfile.Blocks(text)
	i := slices.IndexFunc(blocks, func(b *pem.Block) bool { return b.Type == "PRIVATE KEY" })
	if i < 0 {
		return nil, errors.New("it is no private key in PEM")
	}
	private, err := x509.ParsePKCS8PrivateKey(blocks[i].Bytes)
	if err != nil {
		return nil, errors.New("its private key cannot be read")
	}
	key, ok := private.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("its private key is none of Ed25519")
	}
	return &Signer{key}, nil
}

// Sign makes a token that says these claims from now on.
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

// String returns the range as a token says it.
func (r Range) String() string {
	if r.First == r.Last {
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}
