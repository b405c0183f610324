package cluster

import (
	"bytes"
	"testing"
)

func TestTunnel_WriteCutsRecords(t *testing.T) {
	near, far := newTunnelEnd(), newTunnelEnd()
	client, conn := openTestTunnel(t, near, far)
	want := bytes.Repeat([]byte("0123456789"), 5000)
	if n, err := client.tunnel.Write([][]byte{want[:1], want[1:7], want[7:]}); n != len(want) || err != nil {
		t.Fatalf("%d bytes written: %v", n, err)
	}
	exchange(t, near, far)
	got := make([]byte, 2*len(want))
	if n, err := conn.ReadAvailable(got); !bytes.Equal(got[:n], want) || err != nil {
		t.Errorf("%d bytes read: %v", n, err)
	}
}

func TestTunnel_GrantIsGathered(t *testing.T) {
	near, far := newTunnelEnd(), newTunnelEnd()
	client, _ := openTestTunnel(t, near, far)
	client.tunnel.Grant(maxTunnelWindow/4 - 1)
	if len(near.sent) > 0 {
		t.Error("a record for few bytes")
	}
	client.tunnel.Grant(maxTunnelWindow / 4)
	client.tunnel.Grant(maxTunnelWindow / 4)
	if want := appendTunnelCredit(nil, client.tunnel.key, maxTunnelWindow*5/4); !bytes.Equal(near.sent, want) {
		t.Errorf("records %x, want %x", near.sent, want)
	}
}

func TestTunnel_CloseIsSaidOnce(t *testing.T) {
	near, far := newTunnelEnd(), newTunnelEnd()
	client, _ := openTestTunnel(t, near, far)
	client.tunnel.Close(3)
	client.tunnel.Close(4)
	client.tunnel.Grant(maxTunnelWindow)
	if want := appendTunnelClose(nil, client.tunnel.key, 3); !bytes.Equal(near.sent, want) {
		t.Errorf("records %x, want %x", near.sent, want)
	}
	if _, err := client.tunnel.Write([][]byte{{1}}); err != errTunnelClosed {
		t.Errorf("Write: %v", err)
	}
}
