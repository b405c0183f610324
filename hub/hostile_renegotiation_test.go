package hub_test

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/tokens"
	"github.com/sechlol/go-message-hub/wire"
)

// attackRenegotiation has authenticated TLS 1.2 clients ask for another handshake, which costs
// a server more than a client. Package crypto/tls cannot do this as a client, and the record
// is built by hand.
func attackRenegotiation(e *hostileEnv) {
	for range attackers {
		var secrets bytes.Buffer
		c := e.connect(e.t)
		recorded := &recordingConn{Conn: c.Conn}
		config := e.clientTLS.Clone()
		config.MaxVersion, config.KeyLogWriter = tls.VersionTLS12, &secrets
		config.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		secure := tls.Client(recorded, config)
		if err := secure.Handshake(); err != nil {
			e.t.Fatal(err)
		}
		c.Conn = secure
		v2 := handshakeV2(c, wire.Hello{Version: wire.Version2, Token: e.signToken(tokens.Claims{Subject: "insider"})})
		const records = 2 // number of records that the client has encrypted: Finished and HELLO
		record := sealHandshake(e.t, secrets.String(), recorded.recorded, tlsClientHello(e.t, config)[5:], records)
		if _, err := recorded.Write(record); err != nil {
			e.t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, v2); n != 0 || err == nil || !strings.Contains(err.Error(), "unexpected message") {
			e.t.Errorf("%d bytes, then %v: want the alert of an unexpected message", n, err)
		}
	}
}

// recordingConn is a connection that keeps the first 100 bytes or more that the server sends.
type recordingConn struct {
	net.Conn
	recorded []byte
}

func (c *recordingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if len(c.recorded) < 100 {
		c.recorded = append(c.recorded, b[:n]...)
	}
	return n, err
}

// sealHandshake encrypts a handshake message as record number seq of a TLS 1.2 client (RFC
// 5246, section 6.2.3.3, and RFC 5288). The keys follow from secrets, which is the key log of
// the client, and from serverHello, which is the start of the server's bytes.
func sealHandshake(t testing.TB, secrets string, serverHello, message []byte, seq uint64) []byte {
	t.Helper()
	fields := strings.Fields(secrets) // CLIENT_RANDOM, the client random, and the master secret
	if len(fields) != 3 {
		t.Fatalf("secrets: %q", secrets)
	}
	clientRandom, err := hex.DecodeString(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	master, err := hex.DecodeString(fields[2])
	if err != nil {
		t.Fatal(err)
	}
	serverRandom := serverHello[11:43] // after the headers of record and message, and the version
	keys := prfSHA256(master, append(append([]byte("key expansion"), serverRandom...), clientRandom...), 2*16+2*4)
	block, err := aes.NewCipher(keys[:16])
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	number := binary.BigEndian.AppendUint64(nil, seq)
	nonce := append(append([]byte(nil), keys[32:36]...), number...)
	header := []byte{22, 3, 3}
	additional := binary.BigEndian.AppendUint16(append(append([]byte(nil), number...), header...), uint16(len(message)))
	sealed := gcm.Seal(number, nonce, message, additional)
	return append(binary.BigEndian.AppendUint16(header, uint16(len(sealed))), sealed...)
}

// prfSHA256 returns n bytes of P_SHA256 (RFC 5246, section 5).
func prfSHA256(secret, seed []byte, n int) (out []byte) {
	sum := func(parts ...[]byte) []byte {
		mac := hmac.New(sha256.New, secret)
		for _, p := range parts {
			mac.Write(p)
		}
		return mac.Sum(nil)
	}
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:n]
}

// tlsClientHello returns the first record of a TLS client.
func tlsClientHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { // ends when the pipe is closed below
		defer close(done)
		_ = tls.Client(theirs, config).Handshake() // fails because the pipe is closed
	}()
	defer func() { ours.Close(); <-done }()
	r := bufio.NewReader(ours)
	header, err := r.Peek(5)
	if err != nil {
		t.Fatal(err)
	}
	record := make([]byte, 5+int(binary.BigEndian.Uint16(header[3:])))
	if _, err := io.ReadFull(r, record); err != nil {
		t.Fatal(err)
	}
	return record
}
