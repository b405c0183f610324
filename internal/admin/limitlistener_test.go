package admin

import (
	"net"
	"testing"
)

// TestLimitListener opens more connections than allowed, then closes some to make room.
func TestLimitListener(t *testing.T) {
	s := startHub(t, Config{})
	var open []net.Conn
	for range DefaultMaxConnections + 20 {
		nc, err := net.Dial("tcp", s.adminAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		open = append(open, nc)
	}
	for _, nc := range open[DefaultMaxConnections:] {
		if n, err := nc.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes from a connection above the limit", n)
		}
	}
	for _, nc := range open[:DefaultMaxConnections] {
		nc.Close()
	}
	eventually(t, "there is room for a connection", func() bool {
		got, err := s.http.Get("http://" + s.adminAddr + "/healthz")
		if err == nil {
			got.Body.Close()
		}
		return err == nil
	})
}
