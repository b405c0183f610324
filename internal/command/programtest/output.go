package programtest

import (
	"bytes"
	"errors"
	"strings"
	"sync"
)

// Output collects the output of a program.
type Output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	waiters []chan struct{}
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, w := range o.waiters {
		close(w)
	}
	o.waiters = nil
	return o.text.Write(p)
}

// String returns the output so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// findLine returns the first line that contains text. If there is none, it returns a channel
// that is closed by the next write.
func (o *Output) findLine(text string) (line string, more <-chan struct{}) {
	return o.findLineAfter(0, text)
}

// findLineAfter is findLine for the output after the first bytes.
func (o *Output) findLineAfter(first int, text string) (line string, more <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for line := range strings.Lines(o.text.String()[first:]) {
		if strings.Contains(line, text) {
			return line, nil
		}
	}
	w := make(chan struct{})
	o.waiters = append(o.waiters, w)
	return "", w
}

// FirstLine returns the first line of text.
func FirstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// BrokenPipe is a standard output whose reader has closed it.
type BrokenPipe struct{}

// Write implements io.Writer.
func (BrokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }
