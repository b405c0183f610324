package hub_test

import (
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/memorypipe"
)

// testTransport connects the clients of a test to its hub.
type testTransport struct {
	name   string
	listen func(t testing.TB) net.Listener
	run    func(t *testing.T, test func(t *testing.T))

	// web says that clients of version 2 connect by WebSocket, over TLS if secure is set. Clients
	// of version 1 then connect over TCP.
	web, secure bool
}

var (
	// overTCP uses real sockets, in real time.
	overTCP = testTransport{name: "tcp", listen: listen, run: func(t *testing.T, test func(t *testing.T)) { test(t) }}

	// overWebSocket and overSecureWebSocket use WebSockets over real sockets, in real time.
	overWebSocket       = testTransport{name: "ws", listen: listen, run: overTCP.run, web: true}
	overSecureWebSocket = testTransport{name: "wss", listen: listen, run: overTCP.run, web: true, secure: true}

	// webSocketInMemory uses WebSockets over pipes, in virtual time, as inMemory does.
	webSocketInMemory = testTransport{name: "ws memory", listen: listenInMemory, run: synctest.Test, web: true}

	// inMemory uses pipes that the hub handles like TCP, in virtual time. The test cannot call
	// t.Run.
	inMemory = testTransport{name: "memory", listen: listenInMemory, run: synctest.Test}

	// inMemoryRealTime is for a test whose clients never pause: no virtual time would pass.
	inMemoryRealTime = testTransport{name: "memory", listen: listenInMemory, run: overTCP.run}
)

func listenInMemory(testing.TB) net.Listener { return memorypipe.NewListener() }

// onTransports runs a test over TCP and in memory, side by side.
func onTransports(t *testing.T, test func(t *testing.T, tr testTransport)) {
	t.Helper()
	sideBySide(t, test, overTCP, inMemory)
}

// allTransports are TCP, memory, and WebSockets: over TCP, over TLS, and in memory.
var allTransports = []testTransport{overTCP, inMemory, overWebSocket, overSecureWebSocket, webSocketInMemory}

// onAllTransports runs a test over allTransports, side by side.
func onAllTransports(t *testing.T, test func(t *testing.T, tr testTransport)) {
	t.Helper()
	sideBySide(t, test, allTransports...)
}

// sideBySide runs a test over each of these transports at the same time, and returns when all have
// ended: most tests wait more than they compute. Unlike with t.Parallel, the number of CPUs is no
// limit, and no other test runs meanwhile.
func sideBySide(t *testing.T, test func(t *testing.T, tr testTransport), transports ...testTransport) {
	t.Helper()
	var wg sync.WaitGroup
	for _, tr := range transports {
		wg.Go(func() { tr.test(t, test) }) // ends with the test
	}
	wg.Wait()
}

// onAllTransportsInTurn runs a test over one of allTransports after the other. It is for tests that
// measure the whole process, or whose time limit has to hold while they keep each CPU busy.
func onAllTransportsInTurn(t *testing.T, test func(t *testing.T, tr testTransport)) {
	t.Helper()
	for _, tr := range allTransports {
		tr.test(t, test)
	}
}

// test runs a test over tr.
func (tr testTransport) test(t *testing.T, test func(t *testing.T, tr testTransport)) {
	t.Helper()
	t.Run(tr.name, func(t *testing.T) {
		tr.run(t, func(t *testing.T) { test(t, tr) })
	})
}

// count returns n over TCP, and a quarter of it in memory. It is for tests that need much time.
func (tr testTransport) count(n int) int {
	if !strings.HasSuffix(tr.name, "memory") {
		return n
	}
	return n / 4
}

// partOfLargeFrame returns a part of a frame above 1 MiB that a client can send although the hub
// has no memory for the frame: the kernel holds more of it than a connection in memory.
func (tr testTransport) partOfLargeFrame(frame []byte) []byte {
	if !strings.HasSuffix(tr.name, "memory") {
		return frame[:150_000]
	}
	return frame[:100_000]
}

// start is the function start, over tr.
func (tr testTransport) start(t testing.TB, config hub.Config) *testHub {
	t.Helper()
	return tr.serveWeb(t, startOn(t, withLongTimeouts(config), tr.listen(t)), hub.WebConfig{})
}

// serveWeb serves WebSockets of h as well, if tr is one of WebSockets.
func (tr testTransport) serveWeb(t testing.TB, h *testHub, config hub.WebConfig) *testHub {
	t.Helper()
	switch {
	case tr.secure:
		h.serveWeb(t, config, true)
	case tr.web:
		h.serveWebOn(t, config, tr.listen(t), nil)
	}
	return h
}

// startOpaque serves a hub that does not see what its connections are, without the long timeouts of
// start.
func (tr testTransport) startOpaque(t testing.TB, config hub.Config) *testHub {
	t.Helper()
	return tr.startBehind(t, config, func(ln net.Listener) net.Listener { return opaqueListener{ln} })
}

// startBehind serves a hub that listens behind a wrapper, without the long timeouts of start.
func (tr testTransport) startBehind(t testing.TB, config hub.Config, wrap func(net.Listener) net.Listener) *testHub {
	t.Helper()
	ln := tr.listen(t)
	h := startOn(t, config, wrap(ln))
	h.memory, _ = ln.(*memorypipe.Listener)
	return tr.serveWeb(t, h, hub.WebConfig{})
}

// startFunc serves a hub in memory.
type startFunc func(testing.TB, hub.Config) *testHub

// onMemoryTransports runs f in virtual time with each function that serves a hub whose connections
// are handled like TCP.
func onMemoryTransports(t *testing.T, f func(t *testing.T, start startFunc)) {
	t.Helper()
	for name, start := range map[string]startFunc{inMemory.name: startInMemory, webSocketInMemory.name: startWebSocketInMemory} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, start) })
		})
	}
}

// inVirtualTime runs f in virtual time with a hub that has the default configuration and
// accepts connections in memory: some that it handles like TCP, some that it handles like any
// net.Conn, and some that are WebSockets if their clients speak version 2.
func inVirtualTime(t *testing.T, f func(t *testing.T, h *testHub)) {
	t.Helper()
	inVirtualTimeWith(t, hub.Config{}, f)
}

// inVirtualTimeWith is inVirtualTime for a hub with config.
func inVirtualTimeWith(t *testing.T, config hub.Config, f func(t *testing.T, h *testHub)) {
	t.Helper()
	for name, start := range map[string]startFunc{
		"memory": startInMemory, "net.Conn": startOpaqueInMemory, webSocketInMemory.name: startWebSocketInMemory,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, start(t, config)) })
		})
	}
}

// startInMemory serves a hub in memory, without the long timeouts of start. Its clients have no
// deadlines.
func startInMemory(t testing.TB, config hub.Config) *testHub {
	t.Helper()
	return withoutDeadlines(startOn(t, config, memorypipe.NewListener()))
}

// startOpaqueInMemory is startInMemory for a hub that does not see what its connections are.
func startOpaqueInMemory(t testing.TB, config hub.Config) *testHub {
	t.Helper()
	return withoutDeadlines(inMemory.startOpaque(t, config))
}

// startWebSocketInMemory is startInMemory for a hub whose clients of version 2 are WebSockets.
func startWebSocketInMemory(t testing.TB, config hub.Config) *testHub {
	t.Helper()
	return webSocketInMemory.serveWeb(t, startInMemory(t, config), hub.WebConfig{})
}

func withoutDeadlines(h *testHub) *testHub {
	h.noDeadlines = true
	return h
}

// opaqueListener is a listener that hides what its connections are. The hub can then not see
// what waits in the kernel, and reads each message as its bytes arrive.
type opaqueListener struct{ net.Listener }

func (l opaqueListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{nc}, nil
}
