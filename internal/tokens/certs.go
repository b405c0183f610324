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
	list  []Claims
	named map[string]int // where in the list
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
	in := json.NewDecoder(bytes.NewReader(text))
	if t, err := in.Token(); err != nil || t != json.Delim('[') {
		return nil, errors.New("it is no list in JSON")
	}
	c := &Certs{named: make(map[string]int)}
	for in.More() {
		one, err := readEntry(in)
		if err == nil {
			err = c.add(one)
		}
		if err != nil {
			return nil, fmt.Errorf("entry %d (cert %q): %w", len(c.list)+1, one.Subject, err)
		}
	}
	if _, err := in.Token(); err != nil {
		return nil, fmt.Errorf("behind entry %d: %w", len(c.list), inWords(err))
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the list")
	}
	if len(c.list) == 0 {
		return nil, errors.New("it names no certificate, so that nobody could come in")
	}
	return c, nil
}

// add adds an entry.
func (c *Certs) add(one *Claims) error {
	if one.Subject == "" {
		return errors.New("it does not say for which certificate it is")
	}
	if other, ok := c.named[one.Subject]; ok {
		return fmt.Errorf("entry %d is about that already", other+1)
	}
	c.named[one.Subject] = len(c.list)
	c.list = append(c.list, *one)
	return nil
}

// readEntry reads one entry, as far as it can be read.
func readEntry(in *json.Decoder) (*Claims, error) {
	c := new(Claims)
	if t, err := in.Token(); err != nil || t != json.Delim('{') {
		return c, errors.New(`it is not written as {"cert": "alice.example", "hub_id": "5"}`)
	}
	var seen []string
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return c, inWords(err)
		}
		name, _ := key.(string) // what else there is, in has refused
		if slices.Contains(seen, name) {
			return c, fmt.Errorf("%s stands twice in it", name)
		}
		seen = append(seen, name)
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return c, fmt.Errorf("%.60q: %w", name, inWords(err))
		}
		if err := c.take(name, value); err != nil {
			return c, err
		}
	}
	_, err := in.Token()
	return c, inWords(err)
}

// take reads what an entry says under a name.
func (c *Claims) take(name string, value json.RawMessage) error {
	if name == "cert" {
		if json.Unmarshal(value, &c.Subject) != nil || c.Subject == "" {
			return fmt.Errorf("cert %s: allowed are names of certificates, as text", shown(value))
		}
		return nil
	}
	names := []string{"cert"}
	for i := range claims {
		if claims[i].name == name {
			return claims[i].take(c, value)
		}
		names = append(names, claims[i].name)
	}
	return fmt.Errorf("%.60q is not known: allowed are %s", name, strings.Join(names, ", "))
}

// inWords says it better when a text ends too early.
func inWords(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends in it")
	}
	return err
}

// Find returns what a certificate allows that was verified by these chains: what the first entry says
// that is about one of its names, until the certificate ends to be good. Its errors may be told to
// whoever showed it.
func (c *Certs) Find(chains [][]*x509.Certificate) (*Claims, error) {
	shown, err := FromCert(chains)
	if err != nil {
		return nil, err
	}
	first := len(c.list)
	for _, name := range namesOf(chains[0][0]) {
		if i, ok := c.named[name]; ok {
			first = min(first, i)
		}
	}
	if first == len(c.list) {
		return nil, fmt.Errorf("certificate refused: nobody of the name %q may come in here", shown.Subject)
	}
	one := c.list[first]
	one.Until = shown.Until
	return &one, nil
}

// FromCert returns whose the certificate is that was verified by these chains, and until when it is good. It
// bounds nothing else. Its errors may be told to whoever showed it.
func FromCert(chains [][]*x509.Certificate) (*Claims, error) {
	if len(chains) == 0 {
		return nil, errors.New("this hub asks for a certificate")
	}
	names := namesOf(chains[0][0])
	if len(names) == 0 {
		return nil, errors.New("certificate refused: it has no name")
	}
	c := &Claims{Subject: names[0]}
	for _, chain := range chains {
		until := chain[0].NotAfter
		for _, one := range chain[1:] { // without those who vouch for it, it is worth nothing
			if one.NotAfter.Before(until) {
				until = one.NotAfter
			}
		}
		if until.After(c.Until) {
			c.Until = until
		}
	}
	return c, nil
}

// namesOf returns the names of a client by its certificate: its URIs, DNS names and mail addresses.
// The common name counts only where there is none of these: authorities look closely at
// what they put among those, and not always at that.
func namesOf(c *x509.Certificate) (names []string) {
	for _, one := range c.URIs {
		names = append(names, one.String())
	}
	names = append(append(names, c.DNSNames...), c.EmailAddresses...)
	if len(names) == 0 && c.Subject.CommonName != "" {
		names = append(names, c.Subject.CommonName)
	}
	return names
}
