// Package tokens says who a client is and what it may do, by what is written in a JSON Web
// Token (RFC 7519) that somebody has signed whom the hub trusts, or in a file of the operator about
// the certificate that the client has shown.
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

// maxTokenLen is the longest token that is looked at, in bytes: what a HELLO carries.
const maxTokenLen = 16 << 10

// ErrInvalid says that a token does not let anybody in. Why is wrapped beside it, in words that
// may be told to whoever showed it.
var ErrInvalid = errors.New("token refused")

// ErrExpired says that a token was good, and is no longer. It comes with ErrInvalid.
var ErrExpired = errors.New("it is over")

// Range is the ids from First to Last.
type Range struct{ First, Last uint64 }

// Claims are what a token or a file says. Those that are absent allow everything that the hub
// allows.
type Claims struct {
	Subject string    // who the client is
	ID      uint64    // its id; 0: the hub gives it one
	Expires time.Time // when what it has shown ends to be good; of a token that was verified, with the leeway

	To          []Range // to whom it may send, ascending and without overlaps; nil: to all
	NoList      bool    // it may not ask who is there
	NoWatch     bool    // it may not ask who comes and goes
	MaxBody     int     // bytes; 0: what the hub allows
	MessageRate float64 // it may send in a second, on average; 0: as many as the hub allows
	ByteRate    float64 // likewise
}

// tokenClaims is the claims as they stand in a token. Those of the hub are looked at when its
// signature has been.
type tokenClaims struct {
	jwt.RegisteredClaims
	raw map[string]json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
func (tc *tokenClaims) UnmarshalJSON(text []byte) error {
	return errors.Join(json.Unmarshal(text, &tc.RegisteredClaims), json.Unmarshal(text, &tc.raw))
}

// Issuer is who signs tokens, and for whom, if that is to be looked at.
type Issuer struct {
	Name     string        // the claim iss; "": not looked at
	Audience string        // one of the claim aud; "": not looked at
	Leeway   time.Duration // by how much its clock and that of the hub may differ
}

// Verify returns what a token says, if one of the keys has signed it, it is good now, and it is
// from and for whom it should be. Its errors are ErrInvalid.
func (k *Keys) Verify(token string, issuer Issuer, now time.Time) (*Claims, error) {
	claims, err := k.verify(token, issuer, now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return claims, nil
}

func (k *Keys) verify(token string, issuer Issuer, now time.Time) (*Claims, error) {
	if len(token) > maxTokenLen {
		return nil, fmt.Errorf("it has %d bytes, at most %d are looked at", len(token), maxTokenLen)
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

// describeError says in our words why a token is refused: those of the library tell who shows a wrong
// one more about the keys than it needs to know. ErrExpired comes behind what a newer one could not
// mend.
func describeError(err error) error {
	for _, known := range []struct{ is, say error }{
		{jwt.ErrTokenNotValidYet, errors.New("it is not good yet")},
		{jwt.ErrTokenInvalidIssuer, errors.New("it is from somebody else")},
		{jwt.ErrTokenInvalidAudience, errors.New("it is for somebody else")},
		{jwt.ErrTokenRequiredClaimMissing, errors.New("it does not say until when it is good, from whom, or for whom")},
		{jwt.ErrTokenExpired, ErrExpired},
		{jwt.ErrTokenMalformed, errors.New("it is no JSON Web Token")},
		{jwt.ErrTokenSignatureInvalid, errors.New("nobody whom this hub trusts has signed it")},
		{jwt.ErrTokenUnverifiable, errors.New("nobody whom this hub trusts has signed it")},
	} {
		if errors.Is(err, known.is) {
			return known.say
		}
	}
	return errors.New("it cannot be understood")
}

// decode returns what a body says, if it makes sense.
func (tc *tokenClaims) decode() (*Claims, error) {
	if tc.Subject == "" {
		return nil, errors.New("it does not say who shows it (sub)")
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

// MaxID is the largest id that a token may name. Those above are the hub's, for clients whose
// token names none.
const MaxID = math.MaxInt64

// ParseRange reads an id, or "first-last".
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

// CanSend reports whether a client with these claims may send to id. It takes the logarithm of the
// number of ranges: a client may name 255 receivers in a message.
func (c *Claims) CanSend(id uint64) bool {
	if c.To == nil {
		return true
	}
	i, found := slices.BinarySearchFunc(c.To, id, func(r Range, id uint64) int { return cmp.Compare(r.First, id) })
	return found || i > 0 && id <= c.To[i-1].Last
}
