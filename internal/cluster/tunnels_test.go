package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/internal/body"
)

// tunnelEnd is the tunnels of one of two hubs, whose records travel when the test says so.
type tunnelEnd struct {
	tunnels
	decoder    decoder
	generation uint64
	sent       []byte // records that have not travelled
	accepted   []*TunnelConn
}

func newTunnelEnd() *tunnelEnd {
	e := &tunnelEnd{generation: 1}
	e.decoder.handler = e
	e.tunnels.init(e, func(c *TunnelConn, _ *TunnelRequest) { e.accepted = append(e.accepted, c) })
	return e
}

func (e *tunnelEnd) Append(head []byte, buf *body.Buffer, from, to int) (generation, end uint64) {
	e.sent = append(e.sent, head...)
	if buf != nil {
		e.sent = append(e.sent, buf.Bytes()[from:to]...)
	}
	return e.generation, uint64(len(e.sent))
}

func (*tunnelEnd) Flush()     {}
func (*tunnelEnd) Now() int64 { return 0 }

func (e *tunnelEnd) beginRecord(t recordType, _ []byte, size int) ([]byte, error) {
	if t == recordTunnelData {
		return e.body(size)
	}
	if size > maxControlBody {
		return nil, nonsense("record of type %d with a body of %d bytes", t, size)
	}
	return make([]byte, size), nil
}

func (e *tunnelEnd) endRecord(t recordType, head, body []byte) error { return e.handle(t, head, body) }

// deliver lets everything travel that e has sent.
func (e *tunnelEnd) deliver(to *tunnelEnd) error {
	sent := e.sent
	e.sent = nil
	return to.decoder.write(sent)
}

// exchange lets everything travel between two ends.
func exchange(t interface{ Fatal(...any) }, a, b *tunnelEnd) {
	for len(a.sent)+len(b.sent) > 0 {
		if err := errors.Join(a.deliver(b), b.deliver(a)); err != nil {
			t.Fatal(err)
		}
	}
}

// tunnelClient records what arrives at the end that has opened a tunnel.
type tunnelClient struct {
	tunnel *Tunnel
	got    []byte
	end    error
}

func (c *tunnelClient) HandleData(p []byte) { c.got = append(c.got, p...) }
func (c *tunnelClient) HandleEnd(err error) { c.end = err }

// openTestTunnel opens a tunnel from near to far.
func openTestTunnel(t interface{ Fatal(...any) }, near, far *tunnelEnd) (*tunnelClient, *TunnelConn) {
	c := new(tunnelClient)
	var err error
	if c.tunnel, err = near.openTunnel(&TunnelRequest{ID: 7, Resume: "secret", Network: "tcp", Address: "192.0.2.1:1234"}, c); err != nil {
		t.Fatal(err)
	}
	exchange(t, near, far)
	return c, far.accepted[len(far.accepted)-1]
}

func TestTunnels_CloseComesBehindTheBytes(t *testing.T) {
	near, far := newTunnelEnd(), newTunnelEnd()
	client, conn := openTestTunnel(t, near, far)
	if addr := conn.RemoteAddr(); addr.Network() != "tcp" || addr.String() != "192.0.2.1:1234" {
		t.Errorf("the client is at %s %s", addr.Network(), addr)
	}
	if n, err := client.tunnel.Write([][]byte{[]byte("up"), nil, []byte("ward")}); n != 6 || err != nil {
		t.Fatalf("%d bytes written: %v", n, err)
	}
	client.tunnel.Close(0)
	exchange(t, near, far)
	if got, err := io.ReadAll(conn); string(got) != "upward" || err != nil {
		t.Errorf("read %q: %v", got, err)
	}
	if _, err := conn.Write([]byte("x")); err == nil {
		t.Error("wrote to a closed tunnel")
	}

	client, conn = openTestTunnel(t, near, far)
	if _, err := conn.Write([]byte("down")); err != nil {
		t.Fatal(err)
	}
	conn.CloseWithStatus(1001)
	conn.CloseWithStatus(1002)
	exchange(t, near, far)
	var end *TunnelEndError
	if string(client.got) != "down" || !errors.As(client.end, &end) || end.Status != 1001 {
		t.Errorf("the client got %q and %v", client.got, client.end)
	}
	if n := len(near.open) + len(far.open); n != 0 {
		t.Errorf("%d ends are left", n)
	}
}

// TestTunnels_WindowStopsOneTunnel has a client that does not read. Its tunnel stops, and no other.
func TestTunnels_WindowStopsOneTunnel(t *testing.T) {
	near, far := newTunnelEnd(), newTunnelEnd()
	slow, slowConn := openTestTunnel(t, near, far)
	n, err := slowConn.WriteVector([][]byte{make([]byte, 2*maxTunnelWindow)}, false)
	if n != maxTunnelWindow || err != nil {
		t.Errorf("%d bytes accepted: %v", n, err)
	}
	exchange(t, near, far)
	if n, err := slowConn.WriteVector([][]byte{{1}}, false); n != 0 || err != nil {
		t.Errorf("%d more bytes accepted: %v", n, err)
	}
	other, otherConn := openTestTunnel(t, near, far)
	if _, err := otherConn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	exchange(t, near, far)
	if string(other.got) != "x" {
		t.Errorf("the other client got %q", other.got)
	}
	slow.tunnel.Grant(maxTunnelWindow)
	exchange(t, near, far)
	if n, _ := slowConn.WriteVector([][]byte{make([]byte, 2*maxTunnelWindow)}, false); n != maxTunnelWindow {
		t.Errorf("%d bytes accepted after the client has read all", n)
	}
}

// TestTunnels_SumIsBounded fills many tunnels while nothing arrives.
func TestTunnels_SumIsBounded(t *testing.T) {
	near, far := newTunnelEnd(), newTunnelEnd()
	var conns []*TunnelConn
	for range 2 * maxTunnelBytes / maxTunnelWindow {
		_, conn := openTestTunnel(t, near, far)
		conns = append(conns, conn)
	}
	sum := 0
	for _, c := range conns {
		n, err := c.WriteVector([][]byte{make([]byte, maxTunnelWindow)}, false)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	if sum != maxTunnelBytes {
		t.Errorf("%d bytes under way, want %d", sum, maxTunnelBytes)
	}
	last := conns[len(conns)-1]
	if last.tunnel.CanWrite() {
		t.Error("can write more")
	}
	exchange(t, near, far)
	select {
	case <-last.tunnel.Writable():
	default:
		t.Error("not woken when there was room")
	}
	if n, err := last.WriteVector([][]byte{{1}}, false); n != 1 || err != nil {
		t.Errorf("%d bytes accepted when the others have arrived: %v", n, err)
	}
}

// TestTunnels_BreakEndsThoseOfTheGeneration breaks the link while a tunnel of the next generation
// is open already.
func TestTunnels_BreakEndsThoseOfTheGeneration(t *testing.T) {
	near, far := newTunnelEnd(), newTunnelEnd()
	old, conn := openTestTunnel(t, near, far)
	near.generation = 2
	young := new(tunnelClient)
	var err error
	if young.tunnel, err = near.openTunnel(&TunnelRequest{}, young); err != nil {
		t.Fatal(err)
	}
	near.onBreak(1)
	far.onBreak(1)
	if old.end != ErrTunnelBroken || young.end != nil {
		t.Errorf("the old tunnel has ended with %v, the young one with %v", old.end, young.end)
	}
	if _, err := conn.Read(make([]byte, 1)); err != ErrTunnelBroken {
		t.Errorf("reading at the other hub: %v", err)
	}
	exchange(t, near, far)
	if len(far.open) != 1 {
		t.Errorf("%d tunnels at the other hub", len(far.open))
	}
	near.close()
	near.onBreak(2)
	if young.end != ErrTunnelBroken {
		t.Errorf("after close: %v", young.end)
	}
	if _, err := near.openTunnel(&TunnelRequest{}, young); err != ErrNoTunnel {
		t.Errorf("opened after close: %v", err)
	}
}

func TestTunnels_Nonsense(t *testing.T) {
	for name, record := range map[string][]byte{
		"open without a number":    appendRecordHeader(nil, recordTunnelOpen, 0, 0),
		"open without a request":   appendTunnelOpen(nil, 9, nil),
		"open with no JSON":        appendTunnelOpen(nil, 9, []byte("{")),
		"open with number 0":       appendTunnelOpen(nil, 0, []byte("{}")),
		"open with an old number":  appendTunnelOpen(nil, 1, []byte("{}")),
		"data without a head":      appendRecordHeader(nil, recordTunnelData, 0, 0),
		"data of a tunnel of ours": appendTunnelData(nil, tunnelKey{1, false}, 0),
		"too much data at once":    append(appendTunnelData(nil, tunnelKey{1, true}, maxTunnelData+1), make([]byte, maxTunnelData+1)...),
		"less credit":              appendTunnelCredit(nil, tunnelKey{1, true}, 1),
		"too much credit":          appendTunnelCredit(nil, tunnelKey{1, true}, 3*maxTunnelWindow),
		"credit without a number":  appendRecordHeader(nil, recordTunnelCredit, 0, 0),
		"close without a status":   binary.BigEndian.AppendUint64(appendRecordHeader(nil, recordTunnelClose, 8, 0), 1),
		"received without number":  appendRecordHeader(nil, recordTunnelReceived, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			near, far := newTunnelEnd(), newTunnelEnd()
			openTestTunnel(t, near, far)
			if err := far.decoder.write(record); !errors.Is(err, errNonsense) {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("more data than permitted", func(t *testing.T) {
		near, far := newTunnelEnd(), newTunnelEnd()
		openTestTunnel(t, near, far)
		var err error
		for n := 0; n <= maxTunnelWindow && err == nil; n += maxTunnelData {
			err = far.decoder.write(append(appendTunnelData(nil, tunnelKey{1, true}, maxTunnelData), make([]byte, maxTunnelData)...))
		}
		if !errors.Is(err, errNonsense) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("fewer bytes received", func(t *testing.T) {
		near, far := newTunnelEnd(), newTunnelEnd()
		_, conn := openTestTunnel(t, near, far)
		conn.Write(make([]byte, 100))
		if err := far.decoder.write(appendTunnelReceived(nil, 50)); err != nil {
			t.Fatal(err)
		}
		if err := far.decoder.write(appendTunnelReceived(nil, 49)); !errors.Is(err, errNonsense) {
			t.Errorf("error %v", err)
		}
	})
}

// TestTunnels_Model compares the bytes of several tunnels with what was written.
func TestTunnels_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		near, far := newTunnelEnd(), newTunnelEnd()
		type pair struct {
			client             *tunnelClient
			conn               *TunnelConn
			up, down           []byte // written
			read, passedClient int
		}
		var pairs []*pair
		for range rapid.IntRange(1, 3).Draw(t, "tunnels") {
			client, conn := openTestTunnel(t, near, far)
			pairs = append(pairs, &pair{client: client, conn: conn})
		}
		next := byte(0)
		bytesOf := func(n int) []byte {
			next++
			return bytes.Repeat([]byte{next}, n)
		}
		pick := func(t *rapid.T) *pair { return pairs[rapid.IntRange(0, len(pairs)-1).Draw(t, "tunnel")] }
		t.Repeat(map[string]func(*rapid.T){
			"up": func(t *rapid.T) {
				p, b := pick(t), bytesOf(rapid.IntRange(0, 2*maxTunnelWindow).Draw(t, "bytes"))
				n, err := p.client.tunnel.Write([][]byte{b[:len(b)/3], b[len(b)/3:]})
				if err != nil {
					t.Fatal(err)
				}
				p.up = append(p.up, b[:n]...)
			},
			"down": func(t *rapid.T) {
				p, b := pick(t), bytesOf(rapid.IntRange(0, 2*maxTunnelWindow).Draw(t, "bytes"))
				n, err := p.conn.WriteVector([][]byte{b[:len(b)/2], b[len(b)/2:]}, false)
				if err != nil {
					t.Fatal(err)
				}
				p.down = append(p.down, b[:n]...)
			},
			"read up": func(t *rapid.T) {
				p := pick(t)
				buf := make([]byte, rapid.IntRange(1, maxTunnelWindow).Draw(t, "bytes"))
				n, err := p.conn.ReadAvailable(buf)
				if err != nil || !bytes.Equal(buf[:n], p.up[p.read:p.read+n]) {
					t.Fatalf("other bytes up: %v", err)
				}
				p.read += n
			},
			"pass down": func(t *rapid.T) {
				p := pick(t)
				p.passedClient = rapid.IntRange(p.passedClient, len(p.client.got)).Draw(t, "passed")
				p.client.tunnel.Grant(uint64(p.passedClient))
			},
			"travel": func(t *rapid.T) { exchange(t, near, far) },
			"": func(t *rapid.T) {
				for _, p := range pairs {
					if !bytes.HasPrefix(p.down, p.client.got) {
						t.Fatal("other bytes down")
					}
					if len(p.down)-p.passedClient > maxTunnelWindow || len(p.up)-p.read > maxTunnelWindow {
						t.Fatal("more bytes than the window")
					}
				}
			},
		})
	})
}

// FuzzTunnels_Records gives bytes to a hub that has a tunnel in each direction.
func FuzzTunnels_Records(f *testing.F) {
	f.Add(appendTunnelOpen(nil, 2, []byte(`{"id":"7","resume":"x","network":"tcp","address":"[::1]:9"}`)))
	f.Add(append(appendTunnelData(nil, tunnelKey{1, true}, 3), "abc"...))
	f.Add(appendTunnelCredit(nil, tunnelKey{1, false}, 5*maxTunnelWindow/4))
	f.Add(appendTunnelClose(nil, tunnelKey{1, false}, 1000))
	f.Add(appendTunnelReceived(nil, 1))
	f.Fuzz(func(t *testing.T, records []byte) {
		near, far := newTunnelEnd(), newTunnelEnd()
		openTestTunnel(t, near, far)
		openTestTunnel(t, far, near)
		for len(records) > 0 { // in pieces
			n := min(len(records), 11)
			if err := far.decoder.write(records[:n]); err != nil {
				if !errors.Is(err, errNonsense) {
					t.Fatal(err)
				}
				break
			}
			records = records[n:]
		}
		far.onBreak(far.generation)
	})
}
