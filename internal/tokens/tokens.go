// Package tokens says who a client is and what it may do, by what is written in a JSON Web
// Token (RFC 7519) that somebody has signed whom the hub trusts.
package tokens

import (
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

// tokenMost is the longest token that is looked at, in bytes: what a HELLO carries.
const tokenMost = 16 << 10

// ErrRefused says that a token does not let anybody in. Why is wrapped beside it, in words that
// may be told to whoever showed it.
var ErrRefused = errors.New("token refused")

// Range is the ids from First to Last.
type Range struct{ First, Last uint64 }

// Claims are what a token says. Those that are absent allow everything that the hub allows.
type Claims struct {
	Subject string    // who the client is
	ID      uint64    // its id; 0: the hub gives it one
	Until   time.Time // when the token ends to be good; of one that was verified, with the leeway

	To       []Range // to whom it may send; nil: to all
	NoList   bool    // it may not ask who is there
	NoWatch  bool    // it may not ask who comes and goes
	MaxBody  int     // bytes; 0: what the hub allows
	Messages float64 // it may send in a second, on average; 0: as many as the hub allows
	Bytes    float64 // likewise
}

// body is the claims as they stand in a token.
type body struct {
	jwt.RegisteredClaims
	ID       json.RawMessage   `json:"hub_id,omitempty"` // a number, or text in decimal for programs that cannot read large ones
	To       []json.RawMessage `json:"hub_send,omitempty"`
	List     *bool             `json:"hub_list,omitempty"`
	Watch    *bool             `json:"hub_watch,omitempty"`
	MaxBody  int               `json:"hub_max_body,omitempty"`
	Messages float64           `json:"hub_messages_per_second,omitempty"`
	Bytes    float64           `json:"hub_bytes_per_second,omitempty"`
}

// Issuer is who signs tokens, and for whom, if that is to be looked at.
type Issuer struct {
	Name     string        // the claim iss; "": not looked at
	Audience string        // one of the claim aud; "": not looked at
	Leeway   time.Duration // by how much its clock and that of the hub may differ
}

// Verify returns what a token says, if one of the keys has signed it, it is good now, and it is
// from and for whom it should be. Its errors are ErrRefused.
func (k *Keys) Verify(token string, from Issuer, now time.Time) (*Claims, error) {
	claims, err := k.verify(token, from, now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return claims, nil
}

func (k *Keys) verify(token string, from Issuer, now time.Time) (*Claims, error) {
	if len(token) > tokenMost {
		return nil, fmt.Errorf("it has %d bytes, at most %d are looked at", len(token), tokenMost)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(k.methods()), jwt.WithExpirationRequired(), jwt.WithLeeway(from.Leeway),
		jwt.WithStrictDecoding(), jwt.WithTimeFunc(func() time.Time { return now }),
	}
	if from.Name != "" {
		options = append(options, jwt.WithIssuer(from.Name))
	}
	if from.Audience != "" {
		options = append(options, jwt.WithAudience(from.Audience))
	}
	var b body
	if _, err := jwt.NewParser(options...).ParseWithClaims(token, &b, k.find); err != nil {
		return nil, reason(err)
	}
	c, err := b.claims()
	if err != nil {
		return nil, err
	}
	c.Until = c.Until.Add(from.Leeway)
	return c, nil
}

// reason says in our words why a token is refused: those of the library tell who shows a wrong
// one more about the keys than it needs to know.
func reason(err error) error {
	for _, known := range []struct {
		is   error
		text string
	}{
		{jwt.ErrTokenExpired, "it is over"},
		{jwt.ErrTokenNotValidYet, "it is not good yet"},
		{jwt.ErrTokenInvalidIssuer, "it is from somebody else"},
		{jwt.ErrTokenInvalidAudience, "it is for somebody else"},
		{jwt.ErrTokenRequiredClaimMissing, "it does not say until when it is good, from whom, or for whom"},
		{jwt.ErrTokenMalformed, "it is no JSON Web Token"},
		{jwt.ErrTokenSignatureInvalid, "nobody whom this hub trusts has signed it"},
		{jwt.ErrTokenUnverifiable, "nobody whom this hub trusts has signed it"},
	} {
		if errors.Is(err, known.is) {
			return errors.New(known.text)
		}
	}
	return errors.New("it cannot be understood")
}

// claims returns what a body says, if it makes sense.
func (b *body) claims() (*Claims, error) {
	c := &Claims{
		Subject: b.Subject, Until: b.ExpiresAt.Time,
		NoList: b.List != nil && !*b.List, NoWatch: b.Watch != nil && !*b.Watch,
		MaxBody: b.MaxBody, Messages: b.Messages, Bytes: b.Bytes,
	}
	switch {
	case b.Subject == "":
		return nil, errors.New("it does not say who shows it (sub)")
	case b.MaxBody < 0:
		return nil, errors.New("hub_max_body is below 0")
	case !(b.Messages >= 0) || !(b.Bytes >= 0):
		return nil, errors.New("a rate is below 0")
	}
	if len(b.ID) > 0 {
		id, err := parseID(b.ID)
		if err != nil {
			return nil, fmt.Errorf("hub_id: %w", err)
		}
		c.ID = id
	}
	if b.To == nil {
		return c, nil
	}
	c.To = []Range{}
	for _, text := range b.To {
		r, err := ParseRange(strings.Trim(string(text), `"`))
		if err != nil {
			return nil, fmt.Errorf("hub_send: %w", err)
		}
		c.To = append(c.To, r)
	}
	slices.SortFunc(c.To, func(a, b Range) int {
		switch {
		case a.First < b.First:
			return -1
		case a.First > b.First:
			return 1
		}
		return 0
	})
	return c, nil
}

// IDMost is the largest id that a token may name. Those above are the hub's, for clients whose
// token names none.
const IDMost = math.MaxInt64

// parseID reads an id.
func parseID(text json.RawMessage) (uint64, error) {
	id, err := strconv.ParseUint(strings.Trim(string(text), `"`), 10, 64)
	if err != nil || id == 0 || id > IDMost {
		return 0, fmt.Errorf("%.40q is not a number from 1 to %d", text, uint64(IDMost))
	}
	return id, nil
}

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

// May reports whether a client with these claims may send to id.
func (c *Claims) May(id uint64) bool {
	if c.To == nil {
		return true
	}
	return slices.ContainsFunc(c.To, func(r Range) bool { return r.First <= id && id <= r.Last })
}
