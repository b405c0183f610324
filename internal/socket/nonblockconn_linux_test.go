package socket

import (
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
)

// TestReader_TLSByteByByte receives TLS records byte by byte, in both versions of TLS.
func TestReader_TLSByteByByte(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	server := &tls.Config{Certificates: []tls.Certificate{authority.IssueLocal().TLS(t)}, MinVersion: tls.VersionTLS12}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		serverTCP, clientTCP := openTCP(t)
		near := tls.Server(WrapForTLS(serverTCP), server)
		far := tls.Client(bytewiseConn{clientTCP}, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", MaxVersion: version})
		stream := slices.Concat(frame(10), frame(2000), frame(4), frame(900))
		sent := make(chan error, 1)
		go func() { // ends when all is read
			_, err := far.Write(stream)
			sent <- errors.Join(err, far.CloseWrite())
		}()
		if err := near.Handshake(); err != nil {
			t.Fatal(err)
		}
		config := readerConfig()
		c := New(near, config, testHandler{})
		frames, err := collect(c, func() {})
		compareFrames(t, stream, config.MaxLength, frames, err)
		if err := waitFor(t, "the writing", sent); err != nil {
			t.Error(err)
		}
	}
}

// bytewiseConn writes byte by byte.
type bytewiseConn struct{ net.Conn }

func (d bytewiseConn) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// TestReader_IdleTLSHoldsNothing checks that a TLS connection between two frames holds no
// buffer.
func TestReader_IdleTLSHoldsNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a reader waits below TLS only on linux")
	}
	rd := newTestReader(t, overTLS, readerConfig())
	handled := make(chan struct{}, 1)
	rd.handle = func(Frame) { handled <- struct{}{} }
	rd.serve()
	for range 3 {
		rd.write(frame(10_000)) // above half a record: a reader above TLS would expect more
		waitFor(t, "the frame", handled)
		waitUntil(t, "no buffer is held", func() bool { return used(rd.readBudget.Budget) == 0 })
	}
	rd.Interrupt()
	if err := waitFor(t, "the end", rd.ended); !errors.Is(err, ErrInterrupted) {
		t.Errorf("ended with %v, want %v", err, ErrInterrupted)
	}
}

// TestReader_TLSEndsInMidRecord ends the connection in the middle of a TLS record that has
// just arrived.
func TestReader_TLSEndsInMidRecord(t *testing.T) {
	for name, end := range map[string]func(far *net.TCPConn){
		"end":   func(far *net.TCPConn) { far.CloseWrite() },
		"reset": func(far *net.TCPConn) { far.SetLinger(0); far.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			for range 50 {
				rd := newTestReader(t, overTLS, readerConfig())
				far := rd.far.(*tls.Conn).NetConn().(*net.TCPConn)
				rd.serve()
				if _, err := far.Write([]byte{23, 3, 3}); err != nil {
					t.Fatal(err)
				}
				end(far)
				if err := waitFor(t, "the end", rd.ended); err == nil {
					t.Error("no error")
				}
			}
		})
	}
}
