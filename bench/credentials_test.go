package main

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/tokens"
)

// TestNewCredentials_Work verifies a token with the key file, and the certificate in a handshake.
func TestNewCredentials_Work(t *testing.T) {
	creds, err := newCredentials(&programs{dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := tokens.LoadKeys(creds.authKeysFile)
	if err != nil {
		t.Fatal(err)
	}
	token, err := creds.tokenFor(7)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := keys.Verify(token, tokens.Issuer{}, time.Now())
	if err != nil || claims.ID != 7 {
		t.Errorf("%+v, %v", claims, err)
	}
	if claims, err = keys.Verify(creds.token, tokens.Issuer{}, time.Now()); err != nil || claims.ID != 0 {
		t.Errorf("%+v, %v", claims, err)
	}
	cert, err := tls.LoadX509KeyPair(creds.certFile, creds.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	served := make(chan error, 1)
	go func() { // ends with the handshake, or with the pipe
		served <- tls.Server(a, &tls.Config{Certificates: []tls.Certificate{cert}}).HandshakeContext(t.Context())
	}()
	if err := tls.Client(b, creds.clientTLS).HandshakeContext(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestMakeAuthKeys_SubjectsDiffer(t *testing.T) {
	file, signed, err := makeAuthKeys(&programs{dir: t.TempDir()}, "test", 3)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := tokens.LoadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	subjects := map[string]bool{}
	for _, token := range signed {
		claims, err := keys.Verify(token, tokens.Issuer{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		subjects[claims.Subject] = true
	}
	if len(subjects) != 3 {
		t.Errorf("subjects %v, want 3", subjects)
	}
}
