package webclient

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// serve starts a server that hands each WebSocket to handle, and returns its address.
func serve(t *testing.T, handle func(ctx context.Context, c *websocket.Conn) error) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"test"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		if err := handle(r.Context(), c); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// TestConn_EchoOfAllSizes compares what a server of another library returns with what was sent.
func TestConn_EchoOfAllSizes(t *testing.T) {
	addr := serve(t, func(ctx context.Context, c *websocket.Conn) error {
		for {
			kind, message, err := c.Read(ctx)
			if err != nil {
				return nil // the client has closed
			}
			if kind != websocket.MessageBinary {
				return errors.New("the message is text")
			}
			if err := c.Write(ctx, kind, message); err != nil {
				return err
			}
		}
	})
	for _, bufferSize := range []int{0, 4096} {
		c, err := Dial(t.Context(), addr, "/", "test", bufferSize)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, size := range []int{1, 125, 126, 65535, 65536, 1 << 20} {
			want := bytes.Repeat([]byte("0123456789a"), size/11+1)[:size]
			go func() { // ends when the server has read the message
				if _, err := c.Write(want); err != nil {
					t.Error(err)
				}
			}()
			got := make([]byte, size)
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes: %v, or another message", size, err)
			}
		}
	}
}

// TestConn_ControlFrames waits for the answer to a Ping, and for the end of the stream.
func TestConn_ControlFrames(t *testing.T) {
	addr := serve(t, func(ctx context.Context, c *websocket.Conn) error {
		ctx = c.CloseRead(ctx) // reads the Pong
		if err := c.Write(ctx, websocket.MessageBinary, []byte("before")); err != nil {
			return err
		}
		if err := c.Ping(ctx); err != nil {
			return err
		}
		if err := c.Write(ctx, websocket.MessageBinary, []byte("behind")); err != nil {
			return err
		}
		_ = c.Close(websocket.StatusNormalClosure, "") // waits for a Close frame that a Conn does not send
		return nil
	})
	c, err := Dial(t.Context(), addr, "/", "test", 0)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("beforebehind"))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "beforebehind" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.Read(got); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want EOF", err)
	}
	c.Close()
}

// TestDial_Fails dials servers that do not upgrade, or not to the subprotocol.
func TestDial_Fails(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	if _, err := Dial(t.Context(), strings.TrimPrefix(server.URL, "http://"), "/", "test", 0); err == nil {
		t.Error("the server has no WebSockets")
	}
	addr := serve(t, func(context.Context, *websocket.Conn) error { return nil })
	if _, err := Dial(t.Context(), addr, "/", "other", 0); err == nil {
		t.Error("the server has no such subprotocol")
	}
}

// TestDial_FramesBehindResponse reads frames that arrive together with the response.
func TestDial_FramesBehindResponse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Accept: " + acceptKey(r.Header.Get("Sec-WebSocket-Key")) + "\r\n\r\n\x82\x05hello")
		_ = rw.Flush()
	})}
	go func() { _ = server.Serve(ln) }() // ends with Close
	defer server.Close()
	c, err := Dial(t.Context(), ln.Addr().String(), "/", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, 10)
	if n, err := c.Read(got); err != nil || string(got[:n]) != "hello" {
		t.Errorf("%q, %v", got[:n], err)
	}
}

// acceptKey returns the answer to a key (RFC 6455, section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
