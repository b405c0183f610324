package hubctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/keyfile"
	"github.com/sechlol/go-message-hub/internal/settings"
)

const (
	defaultAdminAddr  = "localhost:9990" // of start_server
	maxAdminTokenFile = 4 << 10          // bytes, as for start_server
	maxAdminResponse  = 1 << 20          // bytes: 64 hubs have 64 KiB
)

// nodesCommand is the configuration of hubctl nodes.
type nodesCommand struct {
	*hubCommand
	admin     string
	tokenFile string
}

func newNodesCommand() (*settings.Settings, func(command.Process) int) {
	c := nodesCommand{hubCommand: &hubCommand{settings: newSettings("nodes",
		"hubctl nodes prints the hubs of a cluster, as one of them sees them. It asks the admin address\n"+
			"of that hub.")}}
	settings.Add(c.settings, &c.admin, "admin", defaultAdminAddr, adminAddressType(), "admin address of the hub: host:port, or a URL of a proxy\nsuch as https://hub.example")
	settings.Add(c.settings, &c.tokenFile, "admin-token-file", "", settings.FilePath(), "file with the token of the admin address")
	c.addCommonFlags(connectTimeout, "time limit for the answer")
	c.settings.Notes = `Each line is a hub, by number. SINCE is the time since the last change of its state;
ROUND TRIP, LAG, UNDER WAY and SENT AGAIN are those of the link from the hub that is
asked, which has none itself. With -json each object is as in the answer of /api/cluster.
The exit code is 1 also if that hub accepts no new clients, because it is not sure of
its membership.`
	return c.settings, func(p command.Process) int {
		return c.supervise(p, func(stopCtx context.Context) (int, error) { return c.printNodes(stopCtx, p.Stdout) })
	}
}

// adminAddressType is the admin address of a hub.
func adminAddressType() settings.Type[string] {
	return settings.Type[string]{
		Parse: func(text string) (string, error) {
			_, err := adminURL(text)
			return text, err
		},
		Format:  settings.AsIs,
		Allowed: "host:port, or a URL that begins with http:// or https://",
	}
}

// adminURL returns the URL of the cluster at an admin address.
func adminURL(addr string) (string, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", settings.InvalidPartError("not an admin address")
	}
	return u.JoinPath("api", "cluster").String(), nil
}

// hubNode is a hub in the answer of the admin address.
type hubNode struct {
	Node    uint32    `json:"node"`
	Name    string    `json:"name"`
	Address string    `json:"address"`
	State   string    `json:"state"`
	Since   time.Time `json:"since"`
	Clients int       `json:"clients"`
	Link    *struct { // nil: the hub that was asked
		RoundTrip *float64 `json:"round_trip_seconds"`
		Lag       float64  `json:"lag_seconds"`
		UnderWay  uint64   `json:"under_way_bytes"`
		Resent    uint64   `json:"resent_bytes"`
	} `json:"link"`
}

// printNodes prints the hubs of the cluster.
func (c nodesCommand) printNodes(stopCtx context.Context, w io.Writer) (int, error) {
	body, err := c.get(stopCtx)
	if err != nil {
		return command.ExitFailure, err
	}
	var answer struct {
		Cluster *struct {
			Error *string           `json:"error"`
			Hubs  []json.RawMessage `json:"hubs"`
		} `json:"cluster"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return command.ExitFailure, fmt.Errorf("the answer of %s is not that of a hub: %w", c.admin, err)
	}
	if answer.Cluster == nil {
		return command.ExitFailure, fmt.Errorf("the hub at %s is not in a cluster: start it with -cluster", c.admin)
	}
	if err := c.printTable(w, answer.Cluster.Hubs); err != nil {
		return command.ExitFailure, err
	}
	if problem := answer.Cluster.Error; problem != nil {
		return command.ExitFailure, fmt.Errorf("the hub at %s accepts no new clients: %s", c.admin, *problem)
	}
	return command.ExitOK, nil
}

// printTable prints hubs: with -json as they are, one in each line, and otherwise as a table.
func (c nodesCommand) printTable(w io.Writer, hubs []json.RawMessage) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if !c.jsonOutput {
		fmt.Fprintln(table, "NODE\tHUB\tADDRESS\tSTATE\tSINCE\tCLIENTS\tROUND TRIP\tLAG\tUNDER WAY\tSENT AGAIN")
	}
	for _, text := range hubs {
		var h hubNode
		if err := json.Unmarshal(text, &h); err != nil {
			return fmt.Errorf("the answer of %s is not that of a hub: %w", c.admin, err)
		}
		if c.jsonOutput {
			fmt.Fprintf(table, "%s\n", text)
		} else {
			fmt.Fprintln(table, h.row(time.Now()))
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	return nil
}

// row returns the line of h in the table, with tabs.
func (h *hubNode) row(now time.Time) string {
	link := []string{"-", "-", "-", "-"}
	if l := h.Link; l != nil {
		if l.RoundTrip != nil {
			link[0] = formatSeconds(*l.RoundTrip)
		}
		link = append(link[:1], formatSeconds(l.Lag), humanize.IBytes(l.UnderWay), humanize.IBytes(l.Resent))
	}
	since := settings.FormatDuration(now.Sub(h.Since).Round(time.Second))
	fields := []string{fmt.Sprint(h.Node), orDash(h.Name), orDash(h.Address), h.State, since, fmt.Sprint(h.Clients)}
	return strings.Join(append(fields, link...), "\t")
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func formatSeconds(s float64) string {
	return settings.FormatDuration(time.Duration(s * float64(time.Second)).Round(10 * time.Microsecond))
}

// get requests the cluster and returns the body of the answer. Its errors are sentences for users.
func (c nodesCommand) get(stopCtx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(stopCtx, c.timeout)
	defer cancel()
	target, err := adminURL(c.admin)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	if c.tokenFile != "" {
		token, err := keyfile.Read(c.tokenFile, maxAdminTokenFile)
		if err != nil {
			return nil, fmt.Errorf("-admin-token-file: %w", err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, CheckRedirect: refuseRedirect}).Do(r)
	if err != nil {
		return nil, c.explainRequestError(stopCtx, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAdminResponse))
	if err != nil {
		return nil, c.explainRequestError(stopCtx, err)
	}
	return body, c.checkStatus(response.StatusCode, body)
}

// refuseRedirect returns the redirect as the answer: the token is for the address that the user
// names.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// checkStatus returns an error unless status is 200.
func (c nodesCommand) checkStatus(status int, body []byte) error {
	var failed struct {
		Error string `json:"error"`
	}
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusUnauthorized:
		return fmt.Errorf("the admin address %s does not accept this token: name the file with its token by -admin-token-file", c.admin)
	case json.Unmarshal(body, &failed) == nil && failed.Error != "":
		return fmt.Errorf("the admin address %s answers %d: %s", c.admin, status, failed.Error)
	}
	return fmt.Errorf("%s answers %d: it is not the admin address of a hub", c.admin, status)
}

// explainRequestError returns an error that says why there is no answer.
func (c nodesCommand) explainRequestError(stopCtx context.Context, err error) error {
	var dialErr *net.OpError
	var errno syscall.Errno
	switch {
	case stopCtx.Err() != nil:
		return errInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the admin address %s did not answer within %s; increase -timeout", c.admin, settings.FormatDuration(c.timeout))
	case errors.As(err, &dialErr) && dialErr.Op == "dial" && errors.As(err, &errno):
		return fmt.Errorf("no admin address at %s: %w; name that of the hub by -admin", c.admin, errno)
	}
	return fmt.Errorf("no answer of the admin address %s: %w", c.admin, err)
}
