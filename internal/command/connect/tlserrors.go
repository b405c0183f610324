package connect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/client"
)

// ExplainTLSError returns a sentence that says why the TLS handshake with a hub failed and
// what to do about that. It returns "" if err is not an error of TLS.
func ExplainTLSError(err error) string {
	var unknownAuthority x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var invalidCert x509.CertificateInvalidError
	var notTLS tls.RecordHeaderError
	var remoteErr *net.OpError
	switch {
	case errors.As(err, &unknownAuthority):
		return "its certificate is signed by an unknown authority: set the authority with -ca"
	case errors.As(err, &wrongName):
		return fmt.Sprintf("its certificate is for %s, not for %s", certNames(wrongName.Certificate), wrongName.Host)
	case errors.As(err, &invalidCert) && invalidCert.Reason == x509.Expired:
		return describeValidity(invalidCert.Cert)
	case errors.As(err, &invalidCert):
		return "its certificate is invalid: " + strings.TrimPrefix(invalidCert.Error(), "x509: ")
	case errors.As(err, &notTLS):
		return "the server does not speak TLS: remove hubs://, or check the port"
	case errors.As(err, &remoteErr) && remoteErr.Op == "remote error":
		switch text := remoteErr.Err.Error(); {
		case strings.Contains(text, "certificate required"):
			return "the hub requires a client certificate: set -cert and -key"
		case strings.Contains(text, "protocol version"):
			return "the server supports only other versions of TLS"
		case strings.Contains(text, "no application protocol"):
			return "the server speaks TLS, but is not a hub"
		case strings.Contains(text, "certificate"), strings.Contains(text, "unknown certificate authority"):
			return "the hub rejected the certificate of -cert: " + strings.TrimPrefix(text, "tls: ")
		default:
			return text
		}
	case errors.Is(err, client.ErrTLS) && !errors.Is(err, context.DeadlineExceeded):
		return "the server ended the handshake: it does not speak TLS (then remove hubs://), is full, or is shutting down"
	}
	return ""
}

// describeValidity returns a sentence with the start or the end of the validity of c.
func describeValidity(c *x509.Certificate) string {
	if now := time.Now(); now.Before(c.NotBefore) {
		return fmt.Sprintf("its certificate is valid only from %s on; the local time is %s",
			c.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return "its certificate expired at " + c.NotAfter.UTC().Format(time.RFC3339)
}

// certNames returns the DNS names and IP addresses of c.
func certNames(c *x509.Certificate) string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name"
	}
	return strings.Join(names, ", ")
}
