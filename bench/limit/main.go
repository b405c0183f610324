// Limit measures bare sockets. It moves as many bytes through as many loopback connections as
// a simulation does, and nothing else. One process only writes, another process only reads and
// discards. No hub on this machine can be faster with the same system calls.
//
//	limit write -clients 100 -bytes 101425500     prints its address, then the result
//	limit read -clients 100 -addr 127.0.0.1:PORT
//
// With -cert and -key for the writing process, and -ca for the reading process, limit measures
// bare connections of crypto/tls.
//
// Limit is also a bare forwarder, the minimum that a message between two clients passes
// through:
//
//	limit forward                                 prints its address, and runs until it is ended
package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Result is printed by the writing process at its end.
type Result struct {
	Clients int     `json:"clients"`
	Bytes   uint64  `json:"bytes"` // in total
	Seconds float64 `json:"seconds"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "limit:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: limit write|read|forward [flags]")
	}
	flags := flag.NewFlagSet("limit "+args[0], flag.ContinueOnError)
	clients := flags.Int("clients", 100, "connections")
	bytes := flags.Uint64("bytes", 1<<30, "bytes for each connection")
	chunk := flags.Int("chunk", 64<<10, "bytes in each write or read")
	addr := flags.String("addr", "", "where the writing process listens")
	var f tlsFiles
	flags.StringVar(&f.cert, "cert", "", "file with the writing process's certificate, for TLS")
	flags.StringVar(&f.key, "key", "", "file with the private key of -cert")
	flags.StringVar(&f.ca, "ca", "", "file with the certificate that the reading process trusts, for TLS")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "write":
		return write(*clients, *bytes, *chunk, f)
	case "read":
		return read(*clients, *chunk, *addr, f)
	case "forward":
		return forward(*chunk)
	default:
		return fmt.Errorf("unknown role %q, want write, read or forward", args[0])
	}
}

// write accepts the connections, completes the handshakes, writes to all connections
// concurrently, and measures the time until every reader has confirmed, by closing, that it
// has received everything.
func write(clients int, bytes uint64, chunk int, f tlsFiles) error {
	config, err := f.serverConfig()
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	fmt.Println(ln.Addr())
	conns := make([]net.Conn, clients)
	for i := range conns {
		if conns[i], err = ln.Accept(); err != nil {
			return err
		}
		if config != nil {
			conns[i] = tls.Server(conns[i], config)
		}
	}
	if err := forEachConn(conns, handshake); err != nil {
		return err
	}
	begin := time.Now()
	err = forEachConn(conns, func(c net.Conn) error { return writeTo(c, bytes, chunk) })
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(Result{clients, uint64(clients) * bytes, time.Since(begin).Seconds()})
}

func writeTo(c net.Conn, bytes uint64, chunk int) error {
	defer c.Close()
	buf := make([]byte, chunk)
	for remaining := bytes; remaining > 0; {
		n, err := c.Write(buf[:min(remaining, uint64(chunk))])
		if err != nil {
			return err
		}
		remaining -= uint64(n)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return err
	}
	_, err := c.Read(buf) // the reader's close
	if err == nil {
		return fmt.Errorf("the reader wrote something")
	}
	return nil
}

// read connects, and reads and discards until the writer closes.
func read(clients, chunk int, addr string, f tlsFiles) error {
	config, err := f.clientConfig()
	if err != nil {
		return err
	}
	conns := make([]net.Conn, clients)
	for i := range conns {
		if conns[i], err = net.Dial("tcp", addr); err != nil {
			return err
		}
		if config != nil {
			conns[i] = tls.Client(conns[i], config)
		}
	}
	if err := forEachConn(conns, handshake); err != nil {
		return err
	}
	return forEachConn(conns, func(c net.Conn) error {
		defer c.Close()
		buf := make([]byte, chunk)
		for {
			switch _, err := c.Read(buf); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
		}
	})
}

// forEachConn calls do for all connections concurrently and returns the first error.
func forEachConn(conns []net.Conn, do func(net.Conn) error) error {
	errs := make(chan error, len(conns))
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			if err := do(c); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}
