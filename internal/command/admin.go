package command

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/admin"
	"github.com/sechlol/go-message-hub/internal/keyfile"
)

const (
	defaultAdminAddr  = "localhost:9990" // reached from this machine only
	maxAdminTokenFile = 4 << 10          // bytes of a token file: more is no token
)

// adminServer is the admin address of a hub, while it is served. nil: there is none.
type adminServer struct {
	*admin.Server
	done chan struct{} // closed when nothing is served any more
}

// openAdmin opens the admin address, unless it is switched off. Several hubs on one machine
// are common: one that finds the default taken goes without it, and says so.
func (c *server) openAdmin(h *hub.Hub, alive *liveness, logger *slog.Logger) (*adminServer, error) {
	if c.adminAddr == "" {
		return nil, nil
	}
	token, err := readAdminToken(c.adminTokenFile)
	if err != nil {
		return nil, err
	}
	ln, err := listenAt(c.adminAddr)
	if err != nil && !c.settings.isSet("admin") {
		logger.Warn("running without an admin address", "error", err,
			"advice", "choose another with -admin, or switch it off with -admin=off")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := admin.New(admin.Config{
		Listener: ln, MaxConnections: adminConnectionLimit(maxOpenFiles()), Hub: h, Token: token, CheckHealth: alive.err, Latency: c.latency, LogDropped: c.logQueue.Dropped,
		CertificateExpiry: c.tlsReloader.notAfterFunc(), Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	a := &adminServer{s, make(chan struct{})}
	go func() { // ends with close, which waits for it
		defer close(a.done)
		if err := s.Serve(); err != nil {
			logger.Error("the admin address is not served any more", "error", err)
		}
	}()
	logger.Info("admin address open", "addr", ln.Addr().String(), "token", token != "")
	return a, nil
}

// checkAdmin returns why the admin address could not be opened, as far as that is known without listening.
func (c *server) checkAdmin() error {
	token, err := readAdminToken(c.adminTokenFile)
	if err != nil {
		return fmt.Errorf("-admin-token-file: %w", err)
	}
	if addr := literalAddr(c.adminAddr); c.adminAddr != "" && addr != nil {
		if err := admin.CheckAccess(addr, token); err != nil {
			return fmt.Errorf("-admin=%s: %w; %s", c.adminAddr, err, adminAdvice(err))
		}
	}
	return nil
}

// drain says that the hub is about to end.
func (a *adminServer) drain() {
	if a != nil {
		a.Drain()
	}
}

// close ends the serving.
func (a *adminServer) close() {
	if a != nil {
		_ = a.Close() // the listener: nothing follows from it
		<-a.done
	}
}

// adminAdvice says what to do about a failure to open the admin address.
func adminAdvice(err error) string {
	switch {
	case errors.Is(err, admin.ErrTokenRequired):
		return "name a file with a token by -admin-token-file, or choose an address of this machine alone, such as -admin=" + defaultAdminAddr
	case errors.Is(err, admin.ErrInvalidToken), errors.As(err, new(*os.PathError)), errors.Is(err, errNoToken):
		return "-admin-token-file must name a file with one line, for example made by: openssl rand -hex 32"
	default:
		return "choose another address with -admin, or switch it off with -admin=off"
	}
}

// errNoToken says that a file has no token.
var errNoToken = errors.New("no token")

// readAdminToken returns what is in a token file, without the space around it.
func readAdminToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := keyfile.Read(path, maxAdminTokenFile)
	switch {
	case errors.As(err, new(*os.PathError)):
		return "", err
	case err != nil:
		return "", fmt.Errorf("%w: %w", errNoToken, err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("%w in %s, which is empty", errNoToken, path)
	}
	if err := admin.CheckToken(token); err != nil {
		return "", fmt.Errorf("%w in %s", err, path)
	}
	return token, nil
}
