package tokens_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/sechlol/go-message-hub/internal/tokens"
)

var now = time.Unix(1_800_000_000, 0)

// newSigner returns a signer and the keys that verify its tokens.
func newSigner(t *testing.T) (*tokens.Signer, *tokens.Keys) {
	t.Helper()
	private, public, err := tokens.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := tokens.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return s, parseKeys(t, public)
}

func parseKeys(t *testing.T, text []byte) *tokens.Keys {
	t.Helper()
	k, err := tokens.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSigner_RoundTrip(t *testing.T) {
	s, k := newSigner(t)
	for _, want := range []tokens.Claims{
		{Subject: "alice", Expires: now.Add(time.Hour)},
		{Subject: "bob", Expires: now.Add(time.Hour), ID: tokens.MaxID, To: []tokens.Range{{1, 1}, {5, 10}, {1 << 63, 1<<64 - 1}},
			NoList: true, NoWatch: true, MaxBody: 100, MessageRate: 0.5, ByteRate: 1e6},
		{Subject: "mute", Expires: now.Add(time.Hour), To: []tokens.Range{}},
	} {
		issuer := tokens.Issuer{Name: "issuer", Audience: "hub"} // without leeway
		token, err := s.Sign(&want, issuer, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, expected := range []tokens.Issuer{issuer, {}} {
			got, err := k.Verify(token, expected, now)
			if err != nil || !got.Expires.Equal(want.Expires) {
				t.Fatalf("%+v: %v, %v", want, got, err)
			}
			if got.Expires = want.Expires; !reflect.DeepEqual(*got, want) {
				t.Errorf("signed %+v, read %+v", want, got)
			}
		}
	}
}

func TestClaims_CanSend(t *testing.T) {
	for _, test := range []struct {
		to       []tokens.Range
		yes, not []uint64
	}{
		{nil, []uint64{0, 7, 1<<64 - 1}, nil},
		{[]tokens.Range{}, nil, []uint64{0, 7}},
		{[]tokens.Range{{2, 2}, {5, 7}}, []uint64{2, 5, 6, 7}, []uint64{0, 1, 3, 4, 8}},
	} {
		c := tokens.Claims{To: test.to}
		for _, id := range test.yes {
			if !c.CanSend(id) {
				t.Errorf("%v: CanSend(%d) = false", test.to, id)
			}
		}
		for _, id := range test.not {
			if c.CanSend(id) {
				t.Errorf("%v: CanSend(%d) = true", test.to, id)
			}
		}
	}
}

// TestKeys_VerifyRejects checks the errors for invalid tokens, which do not describe the keys.
func TestKeys_VerifyRejects(t *testing.T) {
	s, k := newSigner(t)
	other, _ := newSigner(t)
	private, public, err := tokens.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	ownSigner, err := tokens.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(private)
	signingKey, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	good := tokens.Claims{Subject: "alice", Expires: now.Add(time.Hour)}
	sign := func(s *tokens.Signer, c tokens.Claims) string {
		token, err := s.Sign(&c, tokens.Issuer{Name: "issuer", Audience: "hub"}, now)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	signWith := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
		token, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	claims := jwt.MapClaims{"sub": "alice", "exp": now.Add(time.Hour).Unix()}
	valid := sign(s, good)
	parts := strings.Split(valid, ".")
	for name, test := range map[string]struct {
		token string
		keys  *tokens.Keys
		from  tokens.Issuer
		at    time.Time
		want  string
	}{
		"of an unknown signer":    {token: sign(other, good), want: "signature not valid for any key"},
		"expired":                 {token: valid, at: now.Add(2 * time.Hour), want: "invalid token: expired"},
		"expired, unknown signer": {token: sign(other, good), at: now.Add(2 * time.Hour), want: "signature not valid"},
		"expired, wrong issuer":   {token: valid, at: now.Add(2 * time.Hour), from: tokens.Issuer{Name: "another"}, want: "wrong issuer"},
		"that may send to x":      {token: signWith(jwt.SigningMethodEdDSA, signingKey, jwt.MapClaims{"sub": "alice", "exp": claims["exp"], "hub_send": []string{"x"}}), keys: parseKeys(t, public), want: `hub_send ["x"]: allowed are lists`},
		"with a negative rate":    {token: signWith(jwt.SigningMethodEdDSA, signingKey, jwt.MapClaims{"sub": "alice", "exp": claims["exp"], "hub_bytes_per_second": -1}), keys: parseKeys(t, public), want: "hub_bytes_per_second -1: allowed are numbers from 0"},
		"of algorithm none":       {token: signWith(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims), want: "signature not valid"},
		"with a wrong issuer":     {token: valid, from: tokens.Issuer{Name: "another"}, want: "wrong issuer"},
		"with a wrong audience":   {token: valid, from: tokens.Issuer{Audience: "another"}, want: "wrong audience"},
		"changed":                 {token: parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root","exp":9e9}`)) + "." + parts[2], want: "signature not valid"},
		"without a signature":     {token: parts[0] + "." + parts[1] + ".", want: "signature not valid"},
		"of length 0":             {token: "", want: "not a JSON Web Token"},
		"of three dots":           {token: "a.b.c", want: "not a JSON Web Token"},
		"too long":                {token: strings.Repeat("x", 17<<10), want: "maximum is"},
		"without a subject":       {token: sign(s, tokens.Claims{Expires: now.Add(time.Hour)}), want: "sub is missing"},
		"with the key as secret":  {token: signWith(jwt.SigningMethodHS256, public, claims), keys: parseKeys(t, public), want: "signature not valid"},
		"with an id of the hub":   {token: sign(ownSigner, tokens.Claims{Subject: "a", Expires: now.Add(time.Hour), ID: 1 << 63}), keys: parseKeys(t, public), want: "hub_id"},
	} {
		keys, at := k, now
		if test.keys != nil {
			keys = test.keys
		}
		if !test.at.IsZero() {
			at = test.at
		}
		_, err := keys.Verify(test.token, test.from, at)
		if !errors.Is(err, tokens.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("a token %s: %v, want %q", name, err, test.want)
		}
		if expired := name == "expired"; errors.Is(err, tokens.ErrExpired) != expired {
			t.Errorf("a token %s: errors.Is(err, ErrExpired) = %v", name, !expired)
		}
	}
}

// TestKeys_VerifyEachKeyType checks that a key of each type verifies tokens of its own
// algorithms only.
func TestKeys_VerifyEachKeyType(t *testing.T) {
	curve := func(c elliptic.Curve) *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p256, p384 := curve(elliptic.P256()), curve(elliptic.P384())
	secret := []byte(strings.Repeat("s", 32))
	claims := jwt.MapClaims{"sub": "alice", "exp": now.Add(time.Hour).Unix()}
	for name, test := range map[string]struct {
		method  jwt.SigningMethod
		private any
		public  []byte
	}{
		"P-256":         {jwt.SigningMethodES256, p256, publicPEM(t, &p256.PublicKey)},
		"P-384":         {jwt.SigningMethodES384, p384, publicPEM(t, &p384.PublicKey)},
		"RSA":           {jwt.SigningMethodRS256, rsaKey, publicPEM(t, &rsaKey.PublicKey)},
		"RSA-PSS":       {jwt.SigningMethodPS512, rsaKey, publicPEM(t, &rsaKey.PublicKey)},
		"secret":        {jwt.SigningMethodHS256, secret, []byte(base64.StdEncoding.EncodeToString(secret) + "\n")},
		"set":           {jwt.SigningMethodES256, p256, jwkSet(t, jose.JSONWebKey{Key: &rsaKey.PublicKey, KeyID: "r"}, jose.JSONWebKey{Key: &p256.PublicKey, KeyID: "e", Algorithm: "ES256", Use: "sig"})},
		"set of secret": {jwt.SigningMethodHS256, secret, jwkSet(t, jose.JSONWebKey{Key: secret})},
		"two in PEM":    {jwt.SigningMethodES384, p384, append(publicPEM(t, &p256.PublicKey), publicPEM(t, &p384.PublicKey)...)},
	} {
		token, err := jwt.NewWithClaims(test.method, claims).SignedString(test.private)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := parseKeys(t, test.public).Verify(token, tokens.Issuer{}, now); err != nil || c.Subject != "alice" {
			t.Errorf("%s: %v, %v", name, c, err)
		}
		if forged, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(test.public); err == nil && test.method != jwt.SigningMethodHS256 {
			if _, err := parseKeys(t, test.public).Verify(forged, tokens.Issuer{}, now); err == nil {
				t.Errorf("%s: the public key is used as a secret", name)
			}
		}
	}
	// A token that names a key must be signed by that key.
	named := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	named.Header["kid"] = "another"
	token, err := named.SignedString(p256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseKeys(t, jwkSet(t, jose.JSONWebKey{Key: &p256.PublicKey, KeyID: "e"})).Verify(token, tokens.Issuer{}, now); err == nil {
		t.Error("a token that names another key is accepted")
	}
}

func publicPEM(t testing.TB, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func jwkSet(t testing.TB, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestLoadKeys_Invalid(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, public, err := tokens.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for want, text := range map[string][]byte{
		"empty file":                 []byte(" \n"),
		"not a JWK set":              []byte("{"),
		"no usable key":              []byte(`{"keys":[]}`),
		"; and 2 more":               []byte(`{"keys":[{},{},{},{},{}]}`),
		"PRIVATE KEY":                private,
		"1024 bits are too few":      publicPEM(t, &small.PublicKey),
		"curve":                      publicPEM(t, &p224.PublicKey),
		"a secret of 5 bytes":        []byte("c2hvcnQ="),
		"neither PEM nor a JWK set":  []byte("what is this?"),
		`alg "HS256" does not fit`:   jwkSet(t, jose.JSONWebKey{Key: &p256.PublicKey, Algorithm: "HS256"}),
		"open nothing: no such file": nil,
	} {
		file := "nothing"
		if text != nil {
			file = filepath.Join(t.TempDir(), "keys")
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tokens.LoadKeys(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if _, err := tokens.ParseSigner(public); err == nil {
		t.Error("a public key is accepted as a private key")
	}
}

func FuzzVerify(f *testing.F) {
	private, public, err := tokens.GenerateKey()
	if err != nil {
		f.Fatal(err)
	}
	s, err := tokens.ParseSigner(private)
	if err != nil {
		f.Fatal(err)
	}
	k, err := tokens.ParseKeys(public)
	if err != nil {
		f.Fatal(err)
	}
	token, err := s.Sign(&tokens.Claims{Subject: "alice", Expires: now.Add(time.Hour)}, tokens.Issuer{}, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := k.Verify(text, tokens.Issuer{}, now); err == nil && (text != token || c.Subject != "alice") {
			t.Errorf("%q is accepted: %+v", text, c)
		} else if err != nil && !errors.Is(err, tokens.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// TestKeys_VerifyLeeway checks that a token is valid until the leeway after its expiry.
func TestKeys_VerifyLeeway(t *testing.T) {
	s, k := newSigner(t)
	issuer := tokens.Issuer{Leeway: time.Minute}
	token, err := s.Sign(&tokens.Claims{Subject: "alice", Expires: now}, issuer, now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := k.Verify(token, issuer, now.Add(30*time.Second))
	if err != nil || !c.Expires.Equal(now.Add(time.Minute)) {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := k.Verify(token, issuer, now.Add(2*time.Minute)); err == nil {
		t.Error("a token is accepted after the leeway")
	}
}
