package hub_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/sechlol/go-message-hub/hub"
)

// vectors is the content of wire/testdata/classic.json: the bytes that clients of version 1
// send and receive.
type vectors struct {
	Exchanges []exchange
	Closes    []struct {
		Name string
		Send hexBytes
	}
}

type exchange struct {
	Name  string
	Note  string
	Steps []struct {
		Client int
		Send   hexBytes
		Expect map[string]hexBytes
	}
}

type hexBytes []byte

// UnmarshalText decodes hex digits.
func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func loadVectors(t testing.TB) vectors {
	t.Helper()
	raw, err := os.ReadFile("../wire/testdata/classic.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Exchanges) == 0 || len(v.Closes) == 0 {
		t.Fatal("no exchanges or no closes")
	}
	return v
}

// numClients returns the number of clients that an exchange expects to be connected.
func (e *exchange) numClients() int {
	if e.Note == "only client 1 is connected" {
		return 1
	}
	return 3
}

// TestVectors_Exchanges compares every byte that a fresh hub sends with the exchanges. There
// are no bystanders because lists would contain them. Time is virtual because a silent client
// is registered only after a second.
func TestVectors_Exchanges(t *testing.T) {
	for _, e := range loadVectors(t).Exchanges {
		t.Run(e.Name, func(t *testing.T) {
			for name, n := range map[string]int{"whole": 1 << 20, "byte by byte": 1} {
				t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { e.run(t, n) }) })
			}
		})
	}
}

// run sends the requests in chunks of at most n bytes.
func (e *exchange) run(t *testing.T, n int) {
	h := startInMemory(t, hub.Config{})
	clients := make([]*clientV1, 1+e.numClients())
	for i := 1; i < len(clients); i++ {
		clients[i] = h.connect(t)
		clients[i].id = uint64(i)
		eventually(t, "listed", func() bool { return h.Stats().Clients == i })
	}
	for _, step := range e.Steps {
		sender := clients[step.Client]
		for at := 0; at < len(step.Send); at += n {
			sender.send(step.Send[at:min(at+n, len(step.Send))])
		}
		// Afterwards all frames that the sender caused are queued.
		sender.expectBytes(step.Expect[strconv.Itoa(step.Client)])
		for i, c := range clients {
			if i != 0 && i != step.Client {
				c.expectBytes(step.Expect[strconv.Itoa(i)])
			}
		}
	}
}

// expectBytes fails unless the hub has sent exactly want.
func (c *clientV1) expectBytes(want []byte) {
	c.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		c.t.Fatalf("client %d: got %x, %v, want %x", c.id, got[:n], err, want)
	}
	c.fence()
}

// TestVectors_Closes sends bytes that must end the connection. The connection ends, the close
// reason is counted, and the bystanders are served.
func TestVectors_Closes(t *testing.T) {
	for _, vector := range loadVectors(t).Closes {
		t.Run(vector.Name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, hub.Config{})
				bystanders := h.startBystanders(t)
				c := h.connectV1(t)
				c.send(vector.Send)
				c.expectEOF()
				eventually(t, "counted", func() bool {
					reasons := h.Stats().Disconnected
					return reasons[hub.CloseMalformed]+reasons[hub.CloseTooLong] == 1
				})
				bystanders.waitRounds(3)
			})
		})
	}
}
