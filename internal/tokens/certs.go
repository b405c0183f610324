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

// Certs say what those may do who show a certificate. They do not change, and may be used
// concurrently.
type Certs struct {
	entries []Claims
	byName  map[string]int // where in the list
}

// LoadCerts reads what certificates allow from a file: a list in JSON. Each entry has the name of
// a certificate, "cert", and claims of the hub as they stand in a token.
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

// ParseCerts is LoadCerts for what a file holds.
func ParseCerts(text []byte) (*Certs, error) {
	text, err := keyfile.Text(text)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil, errors.New("it is no list in JSON")
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
		return nil, fmt.Errorf("behind entry %d: %w", len(c.entries), describeEOF(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the list")
	}
	if len(c.entries) == 0 {
		return nil, errors.New("it names no certificate, so that nobody could come in")
	}
	return c, nil
}

// add adds an entry.
func (c *Certs) add(entry *Claims) error {
	if entry.Subject == "" {
		return errors.New("it does not say for which certificate it is")
	}
	if other, ok := c.byName[entry.Subject]; ok {
		return fmt.Errorf("entry %d is about that already", other+1)
	}
	c.byName[entry.Subject] = len(c.entries)
	c.entries = append(c.entries, *entry)
	return nil
}

// readEntry reads one entry, as far as it can be read.
func readEntry(dec *json.Decoder) (*Claims, error) {
	c := new(Claims)
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return c, errors.New(`it is not written as {"cert": "alice.example", "hub_id": "5"}`)
	}
	var seen []string
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return c, describeEOF(err)
		}
		name, _ := key.(string) // what else there is, in has refused
		if slices.Contains(seen, name) {
			return c, fmt.Errorf("%s stands twice in it", name)
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

// parseClaim reads what an entry says under a name.
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
	return fmt.Errorf("%.60q is not known: allowed are %s", name, strings.Join(names, ", "))
}

// describeEOF says it better when a text ends too early.
func describeEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends in it")
	}
	return err
}

// Find returns what a certificate allows that was verified by these chains: what the first entry says
// that is about one of its names, until the certificate ends to be good. Its errors may be told to
// whoever showed it.
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
		return nil, fmt.Errorf("certificate refused: nobody of the name %q may come in here", presented.Subject)
	}
	found := c.entries[first]
	found.Expires = presented.Expires
	return &found, nil
}

// ClaimsFromCert returns whose the certificate is that was verified by these chains, and until when it is good. It
// bounds nothing else. Its errors may be told to whoever showed it.
func ClaimsFromCert(chains [][]*x509.Certificate) (*Claims, error) {
	if len(chains) == 0 {
		return nil, errors.New("this hub asks for a certificate")
	}
	names := certNames(chains[0][0])
	if len(names) == 0 {
		return nil, errors.New("certificate refused: it has no name")
	}
	c := &Claims{Subject: names[0]}
	for _, chain := range chains {
		notAfter := chain[0].NotAfter
		for _, cert := range chain[1:] { // without those who vouch for it, it is worth nothing
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

// certNames returns the names of a client by its certificate: its URIs, DNS names and mail addresses.
// The common name counts only where there is none of these: authorities look closely at
// what they put among those, and not always at that.
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
