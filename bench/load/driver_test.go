package main

import (
	"net"
	"testing"
)

// TestDrivers_ConnectionRefused connects each driver to a port at which nothing listens.
func TestDrivers_ConnectionRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	for _, name := range systemNames() {
		t.Run(name, func(t *testing.T) {
			sys, err := findSystem(name)
			if err != nil {
				t.Fatal(err)
			}
			d := sys.newDriver(target{system: name, addr: addr, size: 100}, 2)
			dc, err := d.connect(0, callbacks{onBody: func([]byte) {}, onError: func(error) {}})
			if err == nil {
				dc.close()
				t.Error("connected")
			}
			if sys.visit != nil && sys.visit(addr) == nil {
				t.Error("visited")
			}
		})
	}
}

func TestChannels_Subscription(t *testing.T) {
	for _, test := range []struct {
		direct bool
		want   string
	}{{false, "move.all"}, {true, "move.to.1"}} {
		c := target{namePrefix: "move", direct: test.direct}.channels(2, ".")
		if got := c.subscription(1); got != test.want {
			t.Errorf("direct=%v: %q, want %q", test.direct, got, test.want)
		}
	}
}
