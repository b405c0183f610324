package tokens

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sechlol/go-message-hub/internal/keyfile"
)

// Certs maps the names of client certificates to claims. It is immutable and safe for concurrent
// use.
type Certs struct {
	entries []Claims
	byName  map[string]int // certificate name to index in entries
}

// LoadCerts reads Certs from a file of at most keyfile.MaxBytes. The file holds a JSON list. Each
// entry is an object with the name of a certificate, "cert", and the hub claims of a token.
func LoadCerts(file string) (*Certs, error) {
	text, err := keyfile.Read(file, keyfile.MaxBytes)
	if err != nil {
		return nil, err
	}
	c, err := ParseCerts(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// ParseCerts is LoadCerts for the content of a file.
func ParseCerts(text []byte) (*Certs, error) {
	text, err := keyfile.Text(text)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil, errors.New("not a JSON list")
	}
	c := &Certs{byName: make(map[string]int)}
	for dec.More() {
		entry, err := readEntry(dec)
		if err == nil {
			err = c.add(entry)
		}
		if err != nil {
			return nil, fmt.Errorf("entry %d (cert %q): %w", len(c.entries)+1, entry.Subject, err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("after entry %d: %w", len(c.entries), describeEOF(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the list")
	}
	if len(c.entries) == 0 {
		return nil, errors.New("empty list: every client would be refused")
	}
	return c, nil
}

// add adds an entry. It rejects a second entry for one certificate.
func (c *Certs) add(entry *Claims) error {
	if entry.Subject == "" {
		return errors.New(`"cert" is missing`)
	}
	if other, ok := c.byName[entry.Subject]; ok {
		return fmt.Errorf("duplicate of entry %d", other+1)
	}
	c.byName[entry.Subject] = len(c.entries)
	c.entries = append(c.entries, *entry)
	return nil
}

// readEntry reads one entry. On error it returns the claims read so far, whose Subject names the
// entry.
func readEntry(dec *json.Decoder) (*Claims, error) {
	c := new(Claims)
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return c, errors.New(`not an object such as {"cert": "alice.example", "hub_id": "5"}`)
	}
	var seen []string
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return c, describeEOF(err)
		}
		name, _ := key.(string) // dec accepts only strings as keys
		if slices.Contains(seen, name) {
			return c, fmt.Errorf("duplicate %s", name)
		}
		seen = append(seen, name)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return c, fmt.Errorf("%.60q: %w", name, describeEOF(err))
		}
		if err := c.parseClaim(name, value); err != nil {
			return c, err
		}
	}
	_, err := dec.Token()
	return c, describeEOF(err)
}

// parseClaim reads the value of one key of an entry.
func (c *Claims) parseClaim(name string, value json.RawMessage) error {
	if name == "cert" {
		if json.Unmarshal(value, &c.Subject) != nil || c.Subject == "" {
			return fmt.Errorf("cert %s: allowed are names of certificates, as text", formatValue(value))
		}
		return nil
	}
	names := []string{"cert"}
	for i := range hubClaims {
		if hubClaims[i].name == name {
			return hubClaims[i].parse(c, value)
		}
		names = append(names, hubClaims[i].name)
	}
	return fmt.Errorf("unknown key %.60q: allowed are %s", name, strings.Join(names, ", "))
}

// describeEOF replaces the errors of a text that ends too early by one that users understand.
func describeEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("unexpected end of file")
	}
	return err
}

// Find returns the claims of a client certificate that was verified by these chains: those of
// the first entry for one of its names. They expire with the certificate. The texts of its
// errors are safe to send to the client.
func (c *Certs) Find(chains [][]*x509.Certificate) (*Claims, error) {
	presented, err := ClaimsFromCert(chains)
	if err != nil {
		return nil, err
	}
	first := len(c.entries)
	for _, name := range certNames(chains[0][0]) {
		if i, ok := c.byName[name]; ok {
			first = min(first, i)
		}
	}
	if first == len(c.entries) {
		return nil, fmt.Errorf("certificate refused: %q is not in the list of the hub", presented.Subject)
	}
	found := c.entries[first]
	found.Expires = presented.Expires
	return &found, nil
}

// ClaimsFromCert returns claims with the subject and the expiry of a client certificate that
// was verified by these chains, and without limits. The subject is the first name of the
// certificate. The expiry is that of the chain that stays valid longest. The texts of its
// errors are safe to send to the client.
func ClaimsFromCert(chains [][]*x509.Certificate) (*Claims, error) {
	if len(chains) == 0 {
		return nil, errors.New("this hub requires a client certificate")
	}
	names := certNames(chains[0][0])
	if len(names) == 0 {
		return nil, errors.New("certificate refused: it has no name")
	}
	c := &Claims{Subject: names[0]}
	for _, chain := range chains {
		notAfter := chain[0].NotAfter
		for _, cert := range chain[1:] { // a chain expires with its first certificate that expires
			if cert.NotAfter.Before(notAfter) {
				notAfter = cert.NotAfter
			}
		}
		if notAfter.After(c.Expires) {
			c.Expires = notAfter
		}
	}
	return c, nil
}

// certNames returns the names in a client certificate: its URIs, DNS names and mail addresses.
// The common name counts only if the certificate has none of these, because authorities verify
// the alternative names, but not always the common name.
func certNames(c *x509.Certificate) (names []string) {
	for _, uri := range c.URIs {
		names = append(names, uri.String())
	}
	names = append(append(names, c.DNSNames...), c.EmailAddresses...)
	if len(names) == 0 && c.Subject.CommonName != "" {
		names = append(names, c.Subject.CommonName)
	}
	return names
}
