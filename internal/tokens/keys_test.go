package tokens_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/sechlol/go-message-hub/internal/tokens"
)

// verifies reports whether k accepts a token that private has signed by method.
func verifies(t *testing.T, k *tokens.Keys, method jwt.SigningMethod, private any) bool {
	t.Helper()
	token, err := jwt.NewWithClaims(method, jwt.MapClaims{"sub": "alice", "exp": now.Add(time.Hour).Unix()}).SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Verify(token, tokens.Issuer{}, now)
	return err == nil
}

// jwkJSON returns a JWK as JSON, with overrides as additional or changed members.
func jwkJSON(t *testing.T, key jose.JSONWebKey, overrides map[string]any) string {
	t.Helper()
	members := make(map[string]any)
	text, err := json.Marshal(key)
	if err == nil {
		err = json.Unmarshal(text, &members)
	}
	for name, value := range overrides {
		members[name] = value
	}
	if err == nil {
		text, err = json.Marshal(members)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestParseKeys_SetIgnoresUnusableKeys puts a key of each unusable type before a usable key
// into a set (RFC 7517, section 5).
func TestParseKeys_SetIgnoresUnusableKeys(t *testing.T) {
	good, other := newECKey(t), newECKey(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	public := jose.JSONWebKey{Key: &other.PublicKey, KeyID: "k"}
	for want, jwk := range map[string]string{
		`unsupported kty "AKP"`:               `{"kty":"AKP","alg":"ML-DSA-44","kid":"k","pub":"AAAA"}`,
		`unsupported kty "FUTURE"`:            `{"kty":"FUTURE","kid":"k"}`,
		`(kid "k"): kty is missing`:           `{"kid":"k"}`,
		"unsupported curve \"X25519\"":        `{"kty":"OKP","crv":"X25519","x":"AAAA"}`,
		"unsupported curve \"Ed448\"":         `{"kty":"OKP","crv":"Ed448","x":"AAAA"}`,
		"invalid key of kty EC":               `{"kty":"EC","crv":"P-256","x":"AAAA"}`,
		"invalid key of kty RSA":              `{"kty":"RSA","n":"AAAA"}`,
		"key 1: not a JWK":                    `{"kty":5}`,
		"1024 bits are too few":               jwkJSON(t, jose.JSONWebKey{Key: &small.PublicKey}, nil),
		`its use is "enc"`:                    jwkJSON(t, public, map[string]any{"use": "enc"}),
		"key_ops lack verify":                 jwkJSON(t, public, map[string]any{"key_ops": []string{"encrypt", "wrapKey"}}),
		`alg "RSA-OAEP" does not fit the key`: jwkJSON(t, public, map[string]any{"alg": "RSA-OAEP"}),
		"it is a private key":                 jwkJSON(t, jose.JSONWebKey{Key: other}, nil),
		"a secret of 5 bytes is too short":    jwkJSON(t, jose.JSONWebKey{Key: []byte("short")}, nil),
		`key 1 (kid "k"): its key_ops lack`:   jwkJSON(t, public, map[string]any{"key_ops": []string{}}),
	} {
		set := `{"keys":[` + jwk + `,` + jwkJSON(t, jose.JSONWebKey{Key: &good.PublicKey, KeyID: "good"}, map[string]any{"new": 1}) + `]}`
		k, err := tokens.ParseKeys([]byte(set))
		if err != nil {
			t.Errorf("%s makes the set unusable: %v", jwk, err)
			continue
		}
		if !verifies(t, k, jwt.SigningMethodES256, good) {
			t.Errorf("next to %s the usable key verifies nothing", jwk)
		}
		if verifies(t, k, jwt.SigningMethodES256, other) {
			t.Errorf("%s verifies a token", jwk)
		}
		if got := k.Ignored(); len(got) != 1 || !strings.HasPrefix(got[0], "key 1") || !strings.Contains(got[0], want) {
			t.Errorf("%s: Ignored = %q, want one with %q", jwk, got, want)
		}
		if _, err := tokens.ParseKeys([]byte(`{"keys":[` + jwk + `]}`)); err == nil || !strings.Contains(err.Error(), "no usable key: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s alone: %v, want %q", jwk, err, want)
		}
	}
}

// TestParseKeys_KeyUse checks that keys whose use or operations name signatures are accepted.
func TestParseKeys_KeyUse(t *testing.T) {
	private := newECKey(t)
	for _, overrides := range []map[string]any{
		{"use": "sig"}, {"key_ops": []string{"verify"}}, {"key_ops": []string{"sign", "verify"}, "use": "sig"}, {"alg": "ES256"},
	} {
		k := parseKeys(t, []byte(`{"keys":[`+jwkJSON(t, jose.JSONWebKey{Key: &private.PublicKey}, overrides)+`]}`))
		if len(k.Ignored()) != 0 || !verifies(t, k, jwt.SigningMethodES256, private) {
			t.Errorf("%v is ignored: %q", overrides, k.Ignored())
		}
	}
}

// TestParseKeys_Ed25519 checks that the algorithm names EdDSA and Ed25519 (RFC 9864) mean the
// same, in a key and in a token.
func TestParseKeys_Ed25519(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	named := jwt.GetSigningMethod("Ed25519")
	if named == nil {
		t.Fatal("the JWT library does not know the algorithm Ed25519")
	}
	for _, algorithm := range []string{"", "EdDSA", "Ed25519"} {
		k := parseKeys(t, jwkSet(t, jose.JSONWebKey{Key: public, Algorithm: algorithm}))
		for _, method := range []jwt.SigningMethod{jwt.SigningMethodEdDSA, named} {
			if !verifies(t, k, method, private) {
				t.Errorf("a key with alg %q does not verify a token with alg %s", algorithm, method.Alg())
			}
		}
	}
	elliptic := newECKey(t)
	if verifies(t, parseKeys(t, publicPEM(t, &elliptic.PublicKey)), named, private) {
		t.Error("a key of another type verifies a token with alg Ed25519")
	}
}

// TestParseKeys_TextAroundPEM reads PEM with the additions of editors and openssl.
func TestParseKeys_TextAroundPEM(t *testing.T) {
	private := newECKey(t)
	good := string(publicPEM(t, &private.PublicKey))
	seed, public, err := tokens.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	parameters := string(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 0}}))
	for name, test := range map[string]struct{ text, ignored string }{
		"a byte order mark": {"\ufeff" + good, ""},
		"text before it":    {"The key of the issuer, {of 2026}:\n\n" + good, ""},
		"text after it":     {good + "\nthat was it", ""},
		"lines of Windows":  {"\ufeff" + strings.ReplaceAll(good, "\n", "\r\n"), ""},
		"parameters before": {parameters + good, "key 1: it is a EC PARAMETERS"},
		"a private key":     {good + string(seed), "key 2: it is a PRIVATE KEY"},
		"a broken block":    {strings.Replace(string(public), "MC", "!!", 1) + good, "1 PEM block cannot be decoded"},
		"no key in a block": {string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})) + good, "key 1: it cannot be read"},
	} {
		k, err := tokens.ParseKeys([]byte(test.text))
		if err != nil || !verifies(t, k, jwt.SigningMethodES256, private) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := strings.Join(k.Ignored(), "; "); (got == "") != (test.ignored == "") || !strings.Contains(got, test.ignored) {
			t.Errorf("%s: Ignored = %q, want %q", name, got, test.ignored)
		}
	}
}

// TestParseKeys_ByteOrderMark checks that a byte order mark before a JWK set, a secret, a
// private key or a list of certificates is ignored.
func TestParseKeys_ByteOrderMark(t *testing.T) {
	private, mark := newECKey(t), []byte("\ufeff")
	if k := parseKeys(t, append(mark[:len(mark):len(mark)], jwkSet(t, jose.JSONWebKey{Key: &private.PublicKey})...)); !verifies(t, k, jwt.SigningMethodES256, private) {
		t.Error("a set after a byte order mark verifies nothing")
	}
	secret := bytes.Repeat([]byte("s"), 32)
	if k := parseKeys(t, []byte("\ufeff"+base64.StdEncoding.EncodeToString(secret)+"\r\n")); !verifies(t, k, jwt.SigningMethodHS256, secret) {
		t.Error("a secret after a byte order mark verifies nothing")
	}
	seed, _, err := tokens.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.ParseSigner(append([]byte("\ufeffMy key:\n"), seed...)); err != nil {
		t.Errorf("a private key: %v", err)
	}
	if _, err := tokens.ParseCerts([]byte("\ufeff[{\"cert\": \"a\"}]")); err != nil {
		t.Errorf("a list of certificates: %v", err)
	}
	if _, err := tokens.ParseKeys([]byte("\xff\xfe{\x00}\x00")); err == nil || !strings.Contains(err.Error(), "UTF-16") {
		t.Errorf("a set in UTF-16: %v", err)
	}
}
