package architecture

// room says what one package may import besides the standard library.
type room struct {
	ours   []string // packages of this module, by their folder; tests may import any unless narrow
	others []string // modules of other people
	narrow bool     // tests too may import no more of ours than the package itself
	why    string   // what an import beyond that would break
}

// rooms is the plan of the house. A package that is missing here fails the
// test: add it, with the reason for its borders.
var rooms = map[string]room{
	"wire": {
		narrow: true,
		why:    "it is bytes and frames, pure functions that any program can use without bringing anything else along",
	},
	"internal/body": {
		narrow: true,
		why:    "it owns memory and knows neither frames nor connections",
	},
	"internal/idpool": {
		narrow: true,
		why:    "it hands out numbers",
	},
	"internal/roster": {
		narrow: true,
		why:    "it knows who is connected, not what a connection is",
	},
	"internal/stats": {
		others: []string{"github.com/HdrHistogram/hdrhistogram-go"},
		why:    "it watches from the side: everybody may import it because it imports nobody",
	},
	"internal/limitlog": {
		narrow: true,
		why:    "it decides what is worth a line, and knows neither who logs nor what",
	},
	"internal/notify": {
		others: []string{"golang.org/x/sys"},
		why:    "it speaks to the service manager, and knows nothing of hubs",
	},
	"internal/socket": {
		ours:   []string{"wire", "internal/body"},
		others: []string{"golang.org/x/sys"},
		why:    "it is one framed connection, the same for hub and client, and knows neither of them",
	},
	"internal/proxyheader": {
		others: []string{"github.com/pires/go-proxyproto"},
		why:    "it takes a header off a connection; whom to believe, and what follows from it, is the hub's business",
	},
	"hub": {
		ours:   []string{"wire", "internal/body", "internal/socket", "internal/proxyheader", "internal/idpool", "internal/roster", "internal/stats"},
		others: []string{"github.com/dustin/go-humanize", "golang.org/x/time/rate"},
		why:    "it is embeddable: a program that imports it gets a hub, not our flags, our client or our simulation",
	},
	"client": {
		ours: []string{"wire", "internal/socket", "internal/body"},
		why:  "a program that imports the client must not carry a hub along",
	},
	"internal/simulation": {
		ours:   []string{"client", "internal/limitlog", "internal/stats", "wire"},
		others: []string{"github.com/dustin/go-humanize", "github.com/vbauerster/mpb/v8"},
		why:    "it knows the hub only as an address, so that it can be pointed at any hub that speaks the protocol",
	},
	"internal/admin": {
		ours:   []string{"hub", "wire"},
		others: []string{"github.com/prometheus/client_golang"},
		why:    "it looks into the hub from the side: what it shows is asked of the hub, not kept by it, and flags are not its business",
	},
	"internal/command": {
		ours: []string{
			"wire", "internal/body", "internal/socket", "internal/idpool", "internal/roster", "internal/stats",
			"hub", "client", "internal/limitlog", "internal/simulation", "internal/certs", "internal/tokens", "internal/notify", "internal/admin",
			"internal/tracing", "internal/keyfile",
		},
		others: []string{"github.com/peterbourgon/ff/v3", "github.com/dustin/go-humanize", "golang.org/x/term", "golang.org/x/sync"},
		why:    "it joins the others into programs and is the only place that knows flags, signals and exit codes",
	},
	"internal/tracing": {
		ours:   []string{"hub", "wire"},
		others: []string{"go.opentelemetry.io/otel"},
		why:    "it alone knows OpenTelemetry: the hub tells it of messages, and flags are not its business",
	},
	"internal/tracing/testcollector": {
		others: []string{"go.opentelemetry.io/proto/otlp", "google.golang.org/protobuf"},
		why:    "only tests use it",
	},
	"internal/keyfile": {
		narrow: true,
		why:    "it reads files; what the keys in them are for is the business of those who ask for them",
	},
	"internal/certs": {
		ours: []string{"internal/keyfile"},
		why:  "it reads files and makes configurations of crypto/tls of them; who speaks TLS, and about what, is not its business",
	},
	"internal/certs/testcerts": {
		why: "only tests use it",
	},
	"internal/tokens": {
		ours:   []string{"internal/keyfile"},
		others: []string{"github.com/golang-jwt/jwt/v5", "github.com/go-jose/go-jose/v4"},
		why:    "it reads what others have signed; what follows from it for a client is the hub's business",
	},
	"internal/documents": {
		ours: []string{"internal/command"},
		why:  "it writes to files what internal/command knows of its programs",
	},
	"internal/architecture": {
		why: "it only looks",
	},
	"cmd/hubctl":           program,
	"cmd/start_server":     program,
	"cmd/start_simulation": program,
}

// program is the room of every executable.
var program = room{
	ours: []string{"internal/command"},
	why:  "a main is one call, so that everything it does can be tested without a process",
}

// testLibraries may be imported by any test.
var testLibraries = []string{"go.uber.org/goleak", "pgregory.net/rapid", "go.yaml.in/yaml/v3"}
