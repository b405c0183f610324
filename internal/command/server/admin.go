package server

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sechlol/go-message-hub/internal/admin"
	"github.com/sechlol/go-message-hub/internal/keyfile"
	"github.com/sechlol/go-message-hub/internal/settings"
)

const (
	defaultAdminAddr  = "localhost:9990" // loopback: reachable from this machine only
	maxAdminTokenFile = 4 << 10          // maximum size of a token file, in bytes
)

// adminServer is the admin address of a hub while the address is served. A nil adminServer
// means that the hub has no admin address.
type adminServer struct {
	*admin.Server
	done chan struct{} // closed when Serve has returned
}

// adminFlags are the settings of the admin address.
type adminFlags struct {
	addr      string // empty: no admin address
	tokenFile string
}

func (f *adminFlags) addFlags(s *settings.Settings) {
	settings.Add(s, &f.addr, "admin", defaultAdminAddr, listenAddress(),
		"address for metrics, probes, profiles and the list of\nclients; off: no admin address. If the default is in use,\nthe hub runs without an admin address")
	settings.Add(s, &f.tokenFile, "admin-token-file", "", settings.FilePath(),
		"file with the bearer token for -admin; required unless\n-admin is a loopback address")
}

// open opens the admin address with the other values of c unless the address is disabled.
// Because several hubs on one machine are common, a hub whose default address is in use logs a
// warning and runs without an admin address. A hub whose address was set explicitly returns an
// error instead. isSet says whether it was.
func (f *adminFlags) open(isSet bool, c admin.Config) (*adminServer, error) {
	logger := c.Logger
	if f.addr == "" {
		return nil, nil
	}
	var err error
	if c.Token, err = readAdminToken(f.tokenFile); err != nil {
		return nil, err
	}
	ln, err := listenAt(f.addr)
	if err != nil && !isSet {
		logger.Warn("running without an admin address", "error", err,
			"advice", "choose another with -admin, or disable it with -admin=off")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c.Listener = ln
	s, err := admin.New(c)
	if err != nil {
		return nil, err
	}
	a := &adminServer{s, make(chan struct{})}
	go func() { // ends with close, which waits for it
		defer close(a.done)
		if err := s.Serve(); err != nil {
			logger.Error("the admin address has stopped", "error", err)
		}
	}()
	logger.Info("admin address open", "addr", ln.Addr().String(), "token", c.Token != "")
	return a, nil
}

// check returns an error if the admin address cannot be opened, as far as that is known without
// listening.
func (f *adminFlags) check() error {
	token, err := readAdminToken(f.tokenFile)
	if err != nil {
		return fmt.Errorf("-admin-token-file: %w", err)
	}
	if addr := literalAddr(f.addr); f.addr != "" && addr != nil {
		if err := admin.CheckAccess(addr, token); err != nil {
			return fmt.Errorf("-admin=%s: %w; %s", f.addr, err, adminAdvice(err))
		}
	}
	return nil
}

// drain makes the readiness probe report that the hub is about to shut down.
func (a *adminServer) drain() {
	if a != nil {
		a.Drain()
	}
}

// close stops the admin server and waits until Serve has returned.
func (a *adminServer) close() {
	if a != nil {
		_ = a.Close() // an error of closing the listener has no consequence
		<-a.done
	}
}

// adminAdvice returns advice for an error of opening the admin address.
func adminAdvice(err error) string {
	switch {
	case errors.Is(err, admin.ErrTokenRequired):
		return "name a token file with -admin-token-file, or choose a loopback address such as -admin=" + defaultAdminAddr
	case errors.Is(err, admin.ErrInvalidToken), errors.As(err, new(*os.PathError)), errors.Is(err, errNoToken):
		return "-admin-token-file must name a file with one line, for example made by: openssl rand -hex 32"
	default:
		return "choose another address with -admin, or disable it with -admin=off"
	}
}

// errNoToken reports that a token file contains no token.
var errNoToken = errors.New("no token")

// readAdminToken returns the token in the file at path, without surrounding white space. The
// result is empty if path is empty.
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
