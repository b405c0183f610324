package programtest

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/sechlol/go-message-hub/internal/command"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo prints a line for each reload, and exits with the first signal.
func echo(p command.Process) int {
	fmt.Fprintln(p.Stdout, "begin", p.Args[0])
	reloads, done := p.NotifyReloads()
	defer done()
	for n := 1; ; n++ {
		select {
		case <-reloads:
			fmt.Fprintf(p.Stderr, "reload %d\nreloaded\n", n)
		case <-p.Signals:
			return 7
		}
	}
}

func TestRunning(t *testing.T) {
	s := Start(t, echo, "one")
	if got := s.WaitForLine(&s.Stdout, "begin"); got != "begin one\n" {
		t.Errorf("line %q", got)
	}
	for n := 1; n <= 2; n++ {
		if got, want := s.Reload("reloaded"), fmt.Sprintf("reload %d\nreloaded\n", n); got != want {
			t.Errorf("reload logged %q, want %q", got, want)
		}
	}
	if got := s.Interrupt(); got.Code != 7 || got.Stdout != "begin one\n" {
		t.Errorf("got %+v", got)
	}
}
