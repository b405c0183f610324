package tokens_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sechlol/go-message-hub/internal/tokens"
)

// signHS256 returns a token with any text as claims. The JWT library signs only valid claims.
func signHS256(claims string, secret []byte) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256"}`)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

// FuzzClaims verifies tokens with a valid signature and any claims. The claims that Verify
// returns are within their limits.
func FuzzClaims(f *testing.F) {
	secret := []byte(strings.Repeat("s", 32))
	k, err := tokens.ParseKeys([]byte(base64.StdEncoding.EncodeToString(secret)))
	if err != nil {
		f.Fatal(err)
	}
	for _, claims := range []string{
		`{"sub":"alice","exp":1800003600}`, `{"sub":"a","exp":1e300}`, `{"sub":"a","exp":"x"}`, `{"exp":1800003600}`, `[]`, `null`, ``,
		`{"sub":"a","exp":1800003600,"hub_id":"5","hub_send":["1","5-7",9],"hub_list":false,"hub_watch":false,"hub_max_body":10,"hub_messages_per_second":0.5}`,
		`{"sub":"a","exp":1800003600,"hub_id":18446744073709551615}`, `{"sub":"a","exp":1800003600,"hub_send":[]}`,
		`{"sub":"a","exp":1800003600,"hub_send":["7-5"]}`, `{"sub":"a","exp":1800003600,"hub_max_body":-1}`,
		`{"sub":"a","exp":1800003600,"hub_bytes_per_second":-1}`, `{"sub":"a","sub":"b","exp":1800003600}`,
	} {
		f.Add(claims)
	}
	f.Fuzz(func(t *testing.T, claims string) {
		c, err := k.Verify(signHS256(claims, secret), tokens.Issuer{}, now)
		if err != nil {
			if !errors.Is(err, tokens.ErrInvalid) {
				t.Errorf("%q: %v", claims, err)
			}
			return
		}
		if c.Subject == "" || c.ID > tokens.MaxID || !c.Expires.After(now) || c.MaxBody < 0 || !(c.MessageRate >= 0) || !(c.ByteRate >= 0) {
			t.Errorf("%q is accepted: %+v", claims, c)
		}
		for _, r := range c.To {
			if r.First > r.Last || !c.CanSend(r.First) || !c.CanSend(r.Last) {
				t.Errorf("%q: CanSend is false for an end of %+v", claims, c.To)
			}
		}
	})
}

// FuzzKeys reads any file as keys. The content of a file must not be used as the secret of an
// HMAC in any form, and errors must not contain a secret.
func FuzzKeys(f *testing.F) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	_, public, err := tokens.GenerateKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(public)
	f.Add(publicPEM(f, &p256.PublicKey))
	f.Add(append(publicPEM(f, &p256.PublicKey), public...))
	f.Add(jwkSet(f, jose.JSONWebKey{Key: &p256.PublicKey, KeyID: "e", Algorithm: "ES256", Use: "sig"}))
	f.Add(jwkSet(f, jose.JSONWebKey{Key: []byte(strings.Repeat("s", 32))}))
	f.Add([]byte(base64.StdEncoding.EncodeToString(make([]byte, 32))))
	f.Add([]byte("{"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"))
	claims := `{"sub":"root","exp":1800003600}`
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := tokens.ParseKeys(text)
		trimmed := strings.TrimSpace(string(text))
		if err != nil {
			if !strings.HasPrefix(trimmed, "-----BEGIN ") && len(trimmed) > 20 && strings.Contains(err.Error(), trimmed) {
				t.Errorf("the error contains what can be a secret: %v", err)
			}
			return
		}
		for _, secret := range []string{string(text), trimmed, trimmed + "\n"} {
			if _, err := k.Verify(signHS256(claims, []byte(secret)), tokens.Issuer{}, now.Add(-time.Minute)); err == nil {
				t.Errorf("the content of the file is used as a secret: %q", secret)
			}
		}
		encode := base64.RawURLEncoding.EncodeToString
		if _, err := k.Verify(encode([]byte(`{"alg":"none"}`))+"."+encode([]byte(claims))+".", tokens.Issuer{}, now); err == nil {
			t.Error("a token without a signature is accepted")
		}
	})
}
