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

// TestPiecesOfRecords has records of TLS come a byte at a time, in both versions of it.
func TestPiecesOfRecords(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	server := &tls.Config{Certificates: []tls.Certificate{authority.Local().TLS(t)}, MinVersion: tls.VersionTLS12}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		lower, upper := openTCP(t)
		near := tls.Server(Line(lower), server)
		far := tls.Client(dripping{upper}, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", MaxVersion: version})
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
		c := New(near, config, payer{})
		frames, err := collect(c, func() {})
		compare(t, stream, config.MaxLength, frames, err)
		if err := within(t, "the writing", sent); err != nil {
			t.Error(err)
		}
	}
}

// dripping writes byte by byte.
type dripping struct{ net.Conn }

func (d dripping) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// TestAWaitOverTLSHoldsNothing looks at what a connection holds between two frames.
func TestAWaitOverTLSHoldsNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only there a reader waits beneath TLS")
	}
	b := newBench(t, secure, readerConfig())
	handled := make(chan struct{}, 1)
	b.handle = func(Frame) { handled <- struct{}{} }
	b.serve()
	for range 3 {
		b.write(frame(10_000)) // more than half of a record: whoever waits above TLS then expects as much again
		within(t, "the frame", handled)
		until(t, "no buffer is held", func() bool { return used(b.reads.Budget) == 0 })
	}
	b.Interrupt()
	if err := within(t, "the end", b.ended); !errors.Is(err, ErrInterrupted) {
		t.Errorf("ended with %v, want %v", err, ErrInterrupted)
	}
}

// TestTheEndBehindAPieceOfARecord has the connection end in the middle of a record of TLS, at the same time.
func TestTheEndBehindAPieceOfARecord(t *testing.T) {
	for name, end := range map[string]func(far *net.TCPConn){
		"end":   func(far *net.TCPConn) { far.CloseWrite() },
		"reset": func(far *net.TCPConn) { far.SetLinger(0); far.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			for range 50 {
				b := newBench(t, secure, readerConfig())
				far := b.far.(*tls.Conn).NetConn().(*net.TCPConn)
				b.serve()
				if _, err := far.Write([]byte{23, 3, 3}); err != nil {
					t.Fatal(err)
				}
				end(far)
				if err := within(t, "the end", b.ended); err == nil {
					t.Error("no error")
				}
			}
		})
	}
}
