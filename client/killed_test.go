package client_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// victimHub is the environment variable with the address of the hub for TestVictim.
const victimHub = "CLIENT_TEST_VICTIM_HUB"

// TestVictim runs in the process that is killed. It prints its id, and each message before the
// next Receive.
func TestVictim(t *testing.T) {
	addr := os.Getenv(victimHub)
	if addr == "" {
		t.Skip("runs only as a process of TestKilledReceiver_FatesAreTrue")
	}
	c, err := client.Dial(t.Context(), addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("id", c.ID())
	for m, err := range c.Messages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("got", string(m.Body))
	}
}

// TestKilledReceiver_FatesAreTrue kills processes at random moments, between messages.
func TestKilledReceiver_FatesAreTrue(t *testing.T) {
	_, addr := newHubWith(t, hub.Config{ResumeWindow: time.Millisecond})
	sender := dial(t, addr, 1)[0]
	rounds := 10
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		victim, id, output := startVictim(t, addr)
		fates := make(map[string]wire.Fate)
		var mu sync.Mutex
		var reports sync.WaitGroup
		deadline := time.AfterFunc(time.Duration(rand.IntN(100))*time.Millisecond, func() { victim.Process.Kill() })
		for n := 0; n < 5000; n++ {
			body := fmt.Sprint(n)
			reports.Add(1)
			err := sender.SendFunc(t.Context(), []uint64{id}, []byte(body), nil, func(r *client.Report, err error) {
				defer reports.Done()
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
				fates[body] = r.Fates[0]
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		got := make(map[string]bool)
		for line := range strings.SplitSeq(readAll(t, output), "\n") {
			if n, ok := strings.CutPrefix(line, "got "); ok {
				got[n] = true
			}
		}
		_ = victim.Wait() // the error says that the process was killed
		deadline.Stop()
		reports.Wait()
		wantTrueFates(t, fates, got)
	}
}

// wantTrueFates compares the reported fates with the messages that the receiver had.
func wantTrueFates(t *testing.T, fates map[string]wire.Fate, got map[string]bool) {
	t.Helper()
	counts := make(map[wire.Fate]int)
	for n, fate := range fates {
		counts[fate]++
		switch {
		case fate == wire.FateReceived && !got[n]:
			t.Errorf("message %s is reported as received, and the application did not have it", n)
		case (fate == wire.FateGone || fate == wire.FateUnknown) && got[n]:
			t.Errorf("message %s is %v, and the application had it", n, fate)
		case fate != wire.FateReceived && fate != wire.FateGone && fate != wire.FateUnknown && fate != wire.FateUncertain:
			t.Errorf("message %s is %v", n, fate)
		}
	}
	t.Logf("%d messages reached the application, the fates are %v", len(got), counts)
}

// startVictim starts a process and returns its id and the reader for its output.
func startVictim(t *testing.T, addr string) (*exec.Cmd, uint64, *bufio.Reader) {
	t.Helper()
	victim := exec.Command(os.Args[0], "-test.run=^TestVictim$")
	victim.Env = append(os.Environ(), victimHub+"="+addr)
	pipe, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = victim.Process.Kill() }) // fails if the process has ended, as it should
	output := bufio.NewReader(pipe)
	first, err := output.ReadString('\n')
	var id uint64
	if _, scan := fmt.Sscanf(first, "id %d", &id); err != nil || scan != nil {
		t.Fatalf("the process prints %q, %v", first, err)
	}
	return victim, id, output
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
