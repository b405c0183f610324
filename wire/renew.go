package wire

import "fmt"

// Renew asks the hub to replace the token of the connection. The hub answers by RENEWED or
// ERROR. See Welcome.Renew. The hub ignores unknown fields.
type Renew struct {
	Token string `json:"token"` // the new credentials of the client; not empty
}

// Renewed says that the permissions of the new token apply. The client ignores unknown fields.
type Renewed struct {
	// Expires is the time until the new credentials expire, in milliseconds; 0: they do not
	// expire.
	Expires int64 `json:"expires_ms,omitempty"`

	// MaxBody is the maximum body of a message that the client sends, in bytes. It replaces
	// Welcome.MaxBody.
	MaxBody int `json:"max_body"`
}

// AppendRenew appends a RENEW.
func AppendRenew(b []byte, r *Renew) []byte { return appendJSON(b, TypeRenew, r) }

// ParseRenew reads the payload of a RENEW. It returns an error that wraps ErrMalformed if the
// payload is not a JSON object with such fields, has no token, or is longer than MaxHelloLen.
func ParseRenew(payload []byte) (r Renew, err error) {
	if len(payload) > MaxHelloLen {
		return r, fmt.Errorf("%w: RENEW of %d bytes, %d allowed", ErrMalformed, len(payload), MaxHelloLen)
	}
	if err := parseJSON(payload, "RENEW", &r); err != nil {
		return r, err
	}
	if r.Token == "" {
		return r, fmt.Errorf("%w: RENEW without a token", ErrMalformed)
	}
	return r, nil
}

// AppendRenewed appends a RENEWED.
func AppendRenewed(b []byte, r *Renewed) []byte { return appendJSON(b, TypeRenewed, r) }

// ParseRenewed reads the payload of a RENEWED. It returns an error that wraps ErrMalformed if the
// payload is not a JSON object with such fields, or has a negative number.
func ParseRenewed(payload []byte) (r Renewed, err error) {
	if err := parseJSON(payload, "RENEWED", &r); err != nil {
		return r, err
	}
	if r.Expires < 0 || r.MaxBody < 0 {
		return r, fmt.Errorf("%w: RENEWED with a negative number", ErrMalformed)
	}
	return r, nil
}
