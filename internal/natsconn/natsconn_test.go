package natsconn

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
)

// TestConn_Operations checks what becomes of each operation that a server can send.
func TestConn_Operations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var frames, told []string
		config := testConfig(t)
		config.Handle = func(payload []byte) { frames = append(frames, string(payload)) }
		config.OnError = func(err *ServerError) { told = append(told, err.Text) }
		c, s := open(t, config)
		s.send("MSG a 1 1\r\n1\r\n" + testInfo + "+OK\r\nPONG\r\nHMSG a 1 12 13\r\nNATS/1.0\r\n\r\nx\r\n")
		s.send("-ERR 'Permissions Violation for Publish to \"b\"'\r\nMSG a 1 1001\r\n" + pad("x", 1001) + "\r\n")
		s.send("MSG a 2 1\r\n2\r\n")
		synctest.Wait()
		if got := strings.Join(frames, " "); got != "1 2" {
			t.Errorf("frames %q", got)
		}
		if got := strings.Join(told, "|"); got != `Permissions Violation for Publish to "b"` {
			t.Errorf("errors %q", got)
		}
		if err := c.Err(); err != nil {
			t.Error(err)
		}
	})
}

// TestConn_Ends checks the cause of the end of a connection.
func TestConn_Ends(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(*Conn, *fakeServer)
		want error
	}{
		"closed":               {func(c *Conn, _ *fakeServer) { c.Close() }, ErrClosed},
		"server closes":        {func(_ *Conn, s *fakeServer) { s.Close() }, io.EOF},
		"server closes within": {func(_ *Conn, s *fakeServer) { s.send("MSG a 1 9\r\nx"); s.Close() }, io.EOF},
		"nonsense":             {func(_ *Conn, s *fakeServer) { s.send("MSG a 1 x\r\n") }, errProtocol},
	} {
		c, s := open(t, testConfig(t))
		if err := c.Err(); err != nil {
			t.Errorf("%s: %v before", name, err)
		}
		tt.do(c, s)
		<-c.Done()
		if err := c.Err(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestConn_EndsWithServerError checks errors after which the server closes the connection, or the
// subscription.
func TestConn_EndsWithServerError(t *testing.T) {
	for _, text := range []string{"User Authentication Expired", `Permissions Violation for Subscription to "a" (sid "1")`} {
		c, s := open(t, testConfig(t))
		s.send("-ERR '" + text + "'\r\n")
		<-c.Done()
		if told, ok := errors.AsType[*ServerError](c.Err()); !ok || told.Text != text {
			t.Error(c.Err())
		}
	}
}

// TestConn_CloseEndsHandling checks that Close waits for Handle.
func TestConn_CloseEndsHandling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t)
		begun, release, ended := make(chan struct{}), make(chan struct{}), false
		config.Handle = func([]byte) { close(begun); <-release; ended = true }
		c, s := open(t, config)
		s.send("MSG a 1 1\r\nx\r\n")
		<-begun
		closed := make(chan struct{})
		go func() { // ends with Close
			defer close(closed)
			c.Close()
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close has returned while a frame was handled")
		default:
		}
		close(release)
		<-closed
		if !ended {
			t.Error("Close has returned before the end of Handle")
		}
	})
}
