package architecture

// importRule lists the allowed imports of a package, besides the standard library.
type importRule struct {
	internal []string // packages of this module, by folder; tests may import all, unless strict is set
	external []string // other modules
	strict   bool     // tests may import only internal and the package itself
	reason   string   // why no other import is allowed
}

// importRules has the rule of every package, by folder. TestPackages_HaveRule fails for a package
// without a rule.
var importRules = map[string]importRule{
	"wire": {
		strict: true,
		reason: "it has only pure functions on frames, which any program can use without further dependencies",
	},
	"internal/body": {
		strict: true,
		reason: "it manages memory and knows neither frames nor connections",
	},
	"internal/idpool": {
		strict: true,
		reason: "it assigns ids",
	},
	"internal/admission": {
		external: []string{"golang.org/x/time/rate"},
		strict:   true,
		reason:   "it counts and decides; the hub rejects connections, and does not read from clients that must wait",
	},
	"internal/presence": {
		internal: []string{"wire"},
		strict:   true,
		reason:   "it maps ids to clients and does not know connections",
	},
	"internal/reclaim": {
		internal: []string{"internal/body", "internal/outbox"},
		strict:   true,
		reason:   "it decides which clients give memory back; the hub knows the connections",
	},
	"internal/stats": {
		external: []string{"github.com/HdrHistogram/hdrhistogram-go"},
		reason:   "all packages may import it because it imports none of them",
	},
	"internal/limitlog": {
		strict: true,
		reason: "it limits the rate of log lines and knows neither their source nor their content",
	},
	"internal/notify": {
		external: []string{"golang.org/x/sys"},
		reason:   "it notifies the service manager and does not know hubs",
	},
	"internal/outbox": {
		internal: []string{"wire", "internal/body"},
		reason:   "it queues frames for one connection and does not know what the connection is made of",
	},
	"internal/memorypipe": {
		reason: "only tests use it",
	},
	"internal/socket": {
		internal: []string{"wire", "internal/body", "internal/outbox"},
		external: []string{"golang.org/x/sys"},
		reason:   "it is a framed connection, the same for hub and client, and knows neither of them",
	},
	"internal/proxyheader": {
		external: []string{"github.com/pires/go-proxyproto"},
		reason:   "it parses a header of a connection; the hub decides which peers are trusted",
	},
	"hub": {
		internal: []string{
			"wire", "internal/body", "internal/outbox", "internal/socket", "internal/proxyheader", "internal/idpool", "internal/admission", "internal/limitlog",
			"internal/presence", "internal/reclaim", "internal/stats",
		},
		external: []string{"github.com/dustin/go-humanize"},
		reason:   "it is embeddable: a program that imports it must not get flags, a client or a simulation",
	},
	"client": {
		internal: []string{"wire", "internal/body", "internal/outbox", "internal/socket"},
		reason:   "a program that imports the client must not get a hub",
	},
	"internal/simulation": {
		internal: []string{"client", "internal/limitlog", "internal/stats", "wire"},
		external: []string{"github.com/dustin/go-humanize", "github.com/vbauerster/mpb/v8"},
		reason:   "it knows the hub only as an address, because it must work with every hub that implements the protocol",
	},
	"internal/admin": {
		internal: []string{"hub", "wire"},
		external: []string{"github.com/prometheus/client_golang"},
		reason:   "it reads the state of the hub by its API and does not know flags",
	},
	"internal/command": {
		internal: []string{
			"wire", "internal/body", "internal/socket", "internal/idpool", "internal/presence", "internal/stats",
			"hub", "client", "internal/limitlog", "internal/simulation", "internal/certs", "internal/tokens", "internal/notify", "internal/admin",
			"internal/tracing", "internal/keyfile",
		},
		external: []string{"github.com/peterbourgon/ff/v3", "github.com/dustin/go-humanize", "golang.org/x/term", "golang.org/x/sync"},
		reason:   "it makes programs of the other packages and is the only one that knows flags, signals and exit codes",
	},
	"internal/tracing": {
		internal: []string{"hub", "wire"},
		external: []string{"go.opentelemetry.io/otel"},
		reason:   "it is the only package that knows OpenTelemetry, gets traces from the hub and does not know flags",
	},
	"internal/tracing/testcollector": {
		external: []string{"go.opentelemetry.io/proto/otlp", "google.golang.org/protobuf"},
		reason:   "only tests use it",
	},
	"internal/keyfile": {
		strict: true,
		reason: "it reads files and does not know what their keys are for",
	},
	"internal/certs": {
		internal: []string{"internal/keyfile"},
		reason:   "it reads files and makes TLS configurations, and does not know servers or protocols",
	},
	"internal/certs/testcerts": {
		reason: "only tests use it",
	},
	"internal/tokens": {
		internal: []string{"internal/keyfile"},
		external: []string{"github.com/golang-jwt/jwt/v5", "github.com/go-jose/go-jose/v4"},
		reason:   "it verifies claims; the hub enforces them",
	},
	"internal/documents": {
		internal: []string{"internal/command"},
		reason:   "it writes files with documents from internal/command",
	},
	"internal/architecture": {
		reason: "it reads sources and calls none of them",
	},
	"cmd/hubctl":           mainRule,
	"cmd/start_server":     mainRule,
	"cmd/start_simulation": mainRule,
}

// mainRule is the rule of every executable.
var mainRule = importRule{
	internal: []string{"internal/command"},
	reason:   "a main is one call, because tests can run everything else without a process",
}

// testLibraries are modules that all tests may import.
var testLibraries = []string{"go.uber.org/goleak", "pgregory.net/rapid", "go.yaml.in/yaml/v3"}
