package architecture

// importRule says what one package may import besides the standard library.
type importRule struct {
	internal []string // packages of this module, by their folder; tests may import any unless narrow
	external []string // modules of other people
	strict   bool     // tests too may import no more of ours than the package itself
	reason   string   // what an import beyond that would break
}

// importRules is the plan of the house. A package that is missing here fails the
// test: add it, with the reason for its borders.
var importRules = map[string]importRule{
	"wire": {
		strict: true,
		reason: "it is bytes and frames, pure functions that any program can use without bringing anything else along",
	},
	"internal/body": {
		strict: true,
		reason: "it owns memory and knows neither frames nor connections",
	},
	"internal/idpool": {
		strict: true,
		reason: "it hands out numbers",
	},
	"internal/roster": {
		strict: true,
		reason: "it knows who is connected, not what a connection is",
	},
	"internal/stats": {
		external: []string{"github.com/HdrHistogram/hdrhistogram-go"},
		reason:   "it watches from the side: everybody may import it because it imports nobody",
	},
	"internal/limitlog": {
		strict: true,
		reason: "it decides what is worth a line, and knows neither who logs nor what",
	},
	"internal/notify": {
		external: []string{"golang.org/x/sys"},
		reason:   "it speaks to the service manager, and knows nothing of hubs",
	},
	"internal/socket": {
		internal: []string{"wire", "internal/body"},
		external: []string{"golang.org/x/sys"},
		reason:   "it is one framed connection, the same for hub and client, and knows neither of them",
	},
	"internal/proxyheader": {
		external: []string{"github.com/pires/go-proxyproto"},
		reason:   "it takes a header off a connection; whom to believe, and what follows from it, is the hub's business",
	},
	"hub": {
		internal: []string{"wire", "internal/body", "internal/socket", "internal/proxyheader", "internal/idpool", "internal/roster", "internal/stats"},
		external: []string{"github.com/dustin/go-humanize", "golang.org/x/time/rate"},
		reason:   "it is embeddable: a program that imports it gets a hub, not our flags, our client or our simulation",
	},
	"client": {
		internal: []string{"wire", "internal/socket", "internal/body"},
		reason:   "a program that imports the client must not carry a hub along",
	},
	"internal/simulation": {
		internal: []string{"client", "internal/limitlog", "internal/stats", "wire"},
		external: []string{"github.com/dustin/go-humanize", "github.com/vbauerster/mpb/v8"},
		reason:   "it knows the hub only as an address, so that it can be pointed at any hub that speaks the protocol",
	},
	"internal/admin": {
		internal: []string{"hub", "wire"},
		external: []string{"github.com/prometheus/client_golang"},
		reason:   "it looks into the hub from the side: what it shows is asked of the hub, not kept by it, and flags are not its business",
	},
	"internal/command": {
		internal: []string{
			"wire", "internal/body", "internal/socket", "internal/idpool", "internal/roster", "internal/stats",
			"hub", "client", "internal/limitlog", "internal/simulation", "internal/certs", "internal/tokens", "internal/notify", "internal/admin",
			"internal/tracing", "internal/keyfile",
		},
		external: []string{"github.com/peterbourgon/ff/v3", "github.com/dustin/go-humanize", "golang.org/x/term", "golang.org/x/sync"},
		reason:   "it joins the others into programs and is the only place that knows flags, signals and exit codes",
	},
	"internal/tracing": {
		internal: []string{"hub", "wire"},
		external: []string{"go.opentelemetry.io/otel"},
		reason:   "it alone knows OpenTelemetry: the hub tells it of messages, and flags are not its business",
	},
	"internal/tracing/testcollector": {
		external: []string{"go.opentelemetry.io/proto/otlp", "google.golang.org/protobuf"},
		reason:   "only tests use it",
	},
	"internal/keyfile": {
		strict: true,
		reason: "it reads files; what the keys in them are for is the business of those who ask for them",
	},
	"internal/certs": {
		internal: []string{"internal/keyfile"},
		reason:   "it reads files and makes configurations of crypto/tls of them; who speaks TLS, and about what, is not its business",
	},
	"internal/certs/testcerts": {
		reason: "only tests use it",
	},
	"internal/tokens": {
		internal: []string{"internal/keyfile"},
		external: []string{"github.com/golang-jwt/jwt/v5", "github.com/go-jose/go-jose/v4"},
		reason:   "it reads what others have signed; what follows from it for a client is the hub's business",
	},
	"internal/documents": {
		internal: []string{"internal/command"},
		reason:   "it writes to files what internal/command knows of its programs",
	},
	"internal/architecture": {
		reason: "it only looks",
	},
	"cmd/hubctl":           mainRule,
	"cmd/start_server":     mainRule,
	"cmd/start_simulation": mainRule,
}

// mainRule is the room of every executable.
var mainRule = importRule{
	internal: []string{"internal/command"},
	reason:   "a main is one call, so that everything it does can be tested without a process",
}

// testLibraries may be imported by any test.
var testLibraries = []string{"go.uber.org/goleak", "pgregory.net/rapid", "go.yaml.in/yaml/v3"}
