// Package tokens reads the claims of a client, which say who the client is and what it may do.
// The claims come from a JSON Web Token (RFC 7519), whose signature the package verifies, or
// from a file of the operator that maps names of client certificates to claims.
//
// It does not authenticate connections and does not enforce claims: internal/command/server
// passes them to the hub as hub.Permissions. No message passes through this package: the hub
// uses the claims when a client connects.
package tokens

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxTokenLen is the maximum length of a token, in bytes: that of a HELLO.
const maxTokenLen = 16 << 10

// ErrInvalid says that a token is invalid. Verify wraps the reason beside it. The whole text
// is safe to send to the client.
var ErrInvalid = errors.New("invalid token")

// ErrExpired says that a token was valid and has expired. Verify wraps it beside ErrInvalid.
var ErrExpired = errors.New("expired")

// Range is the ids from First to Last, both included.
type Range struct{ First, Last uint64 }

// Claims are the claims of a token, or of an entry for a certificate. A claim that is absent
// does not restrict the client.
type Claims struct {
	Subject string    // who the client is
	ID      uint64    // granted id; 0: the hub assigns an id
	Expires time.Time // expiry of the credentials; after Verify, leeway included

	To          []Range // receivers it may send to, ascending and without overlaps; nil: all
	NoList      bool    // the client may not list clients
	NoWatch     bool    // the client may not watch presence
	MaxBody     int     // maximum body, in bytes; 0: the limit of the hub
	MessageRate float64 // maximum messages per second, on average; 0: the limit of the hub
	ByteRate    float64 // maximum bytes per second, on average; 0: the limit of the hub
}

// tokenClaims is the JSON form of the claims in a token. The hub claims stay raw until the
// signature is verified.
type tokenClaims struct {
	jwt.RegisteredClaims
	raw map[string]json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
func (tc *tokenClaims) UnmarshalJSON(text []byte) error {
	return errors.Join(json.Unmarshal(text, &tc.RegisteredClaims), json.Unmarshal(text, &tc.raw))
}

// Issuer says which issuer and audience a token must name.
type Issuer struct {
	Name     string        // required claim iss; "": any
	Audience string        // required value of the claim aud; "": any
	Leeway   time.Duration // maximum difference between the clocks of issuer and hub
}

// Verify returns the claims of a token. The signature must match one of the keys, the token
// must be valid at now, and its issuer and audience must be those of issuer. All errors wrap
// ErrInvalid.
func (k *Keys) Verify(token string, issuer Issuer, now time.Time) (*Claims, error) {
	claims, err := k.verify(token, issuer, now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return claims, nil
}

func (k *Keys) verify(token string, issuer Issuer, now time.Time) (*Claims, error) {
	if len(token) > maxTokenLen {
		return nil, fmt.Errorf("%d bytes, maximum is %d", len(token), maxTokenLen)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(k.methods()), jwt.WithExpirationRequired(), jwt.WithLeeway(issuer.Leeway),
		jwt.WithStrictDecoding(), jwt.WithTimeFunc(func() time.Time { return now }),
	}
	if issuer.Name != "" {
		options = append(options, jwt.WithIssuer(issuer.Name))
	}
	if issuer.Audience != "" {
		options = append(options, jwt.WithAudience(issuer.Audience))
	}
	var tc tokenClaims
	if _, err := jwt.NewParser(options...).ParseWithClaims(token, &tc, k.find); err != nil {
		return nil, describeError(err)
	}
	c, err := tc.decode()
	if err != nil {
		return nil, err
	}
	c.Expires = c.Expires.Add(issuer.Leeway)
	return c, nil
}

// describeError replaces an error of the JWT library, whose text tells the client more about
// the keys than it needs to know. ErrExpired comes after the errors that a newer token would
// have as well, because a client that gets ErrExpired tries again with a newer token.
func describeError(err error) error {
	for _, known := range []struct{ is, say error }{
		{jwt.ErrTokenNotValidYet, errors.New("not valid yet (nbf)")},
		{jwt.ErrTokenInvalidIssuer, errors.New("wrong issuer (iss)")},
		{jwt.ErrTokenInvalidAudience, errors.New("wrong audience (aud)")},
		{jwt.ErrTokenRequiredClaimMissing, errors.New("exp, iss or aud is missing")},
		{jwt.ErrTokenExpired, ErrExpired},
		{jwt.ErrTokenMalformed, errors.New("not a JSON Web Token")},
		{jwt.ErrTokenSignatureInvalid, errors.New("signature not valid for any key of this hub")},
		{jwt.ErrTokenUnverifiable, errors.New("signature not valid for any key of this hub")},
	} {
		if errors.Is(err, known.is) {
			return known.say
		}
	}
	return errors.New("malformed")
}

// decode returns the claims, or an error if one of them has an invalid value.
func (tc *tokenClaims) decode() (*Claims, error) {
	if tc.Subject == "" {
		return nil, errors.New("sub is missing")
	}
	c := &Claims{Subject: tc.Subject, Expires: tc.ExpiresAt.Time}
	for i := range hubClaims {
		if value, ok := tc.raw[hubClaims[i].name]; ok {
			if err := hubClaims[i].parse(c, value); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// MaxID is the largest id that a token can grant. The hub assigns the ids above MaxID to clients
// without a granted id.
const MaxID = math.MaxInt64

// ParseRange parses an id, or a range "first-last".
func ParseRange(text string) (Range, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	a, errA := strconv.ParseUint(first, 10, 64)
	b, errB := strconv.ParseUint(last, 10, 64)
	if errA != nil || errB != nil || a > b {
		return Range{}, fmt.Errorf("%.40q is neither an id nor a range such as \"5-10\"", text)
	}
	return Range{a, b}, nil
}

// CanSend reports whether a client with these claims may send to id. Its time is logarithmic
// in the number of ranges, because the hub calls it for each of up to 255 receivers of a
// message.
func (c *Claims) CanSend(id uint64) bool {
	if c.To == nil {
		return true
	}
	i, found := slices.BinarySearchFunc(c.To, id, func(r Range, id uint64) int { return cmp.Compare(r.First, id) })
	return found || i > 0 && id <= c.To[i-1].Last
}
