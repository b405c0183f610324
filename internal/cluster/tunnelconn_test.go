package cluster

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestTunnelConn_ReadDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := newTunnelEnd(), newTunnelEnd()
		client, conn := openTestTunnel(t, near, far)
		begun := time.Now()
		conn.SetReadDeadline(begun.Add(time.Second))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("Read: %v after %v", err, time.Since(begun))
		}
		go func() { // ends with the write
			time.Sleep(time.Second)
			client.tunnel.Write([][]byte{{1}})
			exchange(t, near, far)
		}()
		conn.SetReadDeadline(time.Time{})
		if err := conn.WaitReadable(); err != nil {
			t.Error(err)
		}
		conn.SetReadDeadline(begun) // bytes that have arrived are read all the same
		if n, err := conn.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("Read: %d, %v", n, err)
		}
		synctest.Wait()
	})
}

func TestTunnelConn_CloseEndsWaits(t *testing.T) {
	near, far := newTunnelEnd(), newTunnelEnd()
	_, conn := openTestTunnel(t, near, far)
	if _, err := conn.Write(make([]byte, maxTunnelWindow)); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 2)
	go func() { // ends with Close
		_, err := conn.Read(make([]byte, 1))
		errs <- err
	}()
	go func() { // ends with Close
		_, err := conn.WriteVector(nil, true)
		errs <- err
	}()
	conn.Close()
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, net.ErrClosed) && !errors.Is(err, errTunnelClosed) {
			t.Errorf("error %v", err)
		}
	}
}

func TestTunnelConn_IdleHoldsNoBuffer(t *testing.T) {
	near, far := newTunnelEnd(), newTunnelEnd()
	client, conn := openTestTunnel(t, near, far)
	client.tunnel.Write([][]byte{make([]byte, 10_000)})
	exchange(t, near, far)
	for buf := make([]byte, 3000); conn.pos < len(conn.data); {
		if _, err := conn.ReadAvailable(buf); err != nil {
			t.Fatal(err)
		}
	}
	if cap(conn.data) > maxIdleData {
		t.Errorf("an idle connection holds %d bytes", cap(conn.data))
	}
}

// TestTunnelConn_Address has a name as the address, too, which must not be looked up.
func TestTunnelConn_Address(t *testing.T) {
	for _, test := range []struct {
		network, address string
		isTCP            bool
	}{
		{"tcp", "192.0.2.1:1234", true},
		{"tcp", "[2001:db8::1]:1234", true},
		{"tcp", "localhost:1234", false},
		{"tcp", "192.0.2.1:http", false},
		{"unix", "192.0.2.1:1234", false},
		{"pipe", "", false},
	} {
		addr := tunnelAddr(&TunnelRequest{Network: test.network, Address: test.address})
		_, isTCP := addr.(*net.TCPAddr)
		if addr.Network() != test.network || addr.String() != test.address || isTCP != test.isTCP {
			t.Errorf("%s %s: %T %s %s", test.network, test.address, addr, addr.Network(), addr)
		}
	}
}
