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
	"internal/relay": {
		internal: []string{"wire", "internal/body", "internal/outbox"},
		strict:   true,
		reason:   "it passes messages on and knows neither connections nor the configuration of a hub",
	},
	"internal/local": {
		internal: []string{"wire", "internal/body", "internal/outbox", "internal/relay"},
		strict:   true,
		reason:   "it sends and receives without a connection; the hub assigns the ids",
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
	"internal/web": {
		external: []string{"github.com/gobwas/ws"},
		reason:   "it decides about HTTP requests and knows neither hubs nor frames",
	},
	"internal/cluster": {
		internal: []string{"wire", "internal/body", "internal/outbox", "internal/presence", "internal/relay", "internal/cluster/link"},
		reason:   "it connects hubs and knows neither connections of clients nor NATS",
	},
	"internal/cluster/link": {
		internal: []string{"internal/body"},
		strict:   true,
		reason:   "it carries bytes in order and does not know what they mean",
	},
	"internal/cluster/clustertest": {
		internal: []string{"internal/cluster", "internal/cluster/membus"},
		reason:   "only tests use it",
	},
	"internal/cluster/membus": {
		internal: []string{"internal/cluster"},
		reason:   "only tests use it",
	},
	"internal/cluster/lease": {
		internal: []string{"internal/cluster"},
		reason:   "it decides by compare-and-set and does not know what the store of the keys is",
	},
	"internal/natsserver": {
		external: []string{"github.com/nats-io/nats-server/v2", "github.com/nats-io/jwt/v2", "github.com/nats-io/nkeys"},
		reason:   "only tests and the simulation run a NATS server within the process",
	},
	"internal/natsconn": {
		reason: "it carries frames over one connection and does not know what they mean, nor which servers there are",
	},
	"natscluster": {
		internal: []string{"hub", "internal/cluster", "internal/cluster/lease", "internal/limitlog", "internal/natsconn"},
		external: []string{"github.com/nats-io/nats.go"},
		reason:   "a hub without a cluster must not contain NATS",
	},
	"hub": {
		internal: []string{
			"wire", "internal/body", "internal/outbox", "internal/socket", "internal/proxyheader", "internal/idpool", "internal/admission", "internal/cluster", "internal/limitlog",
			"internal/presence", "internal/reclaim", "internal/relay", "internal/local", "internal/stats", "internal/web",
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
		external: []string{"github.com/prometheus/client_golang", "github.com/prometheus/client_model"}, // the latter: how the former says its values
		reason:   "it reads the state of the hub by its API and does not know flags",
	},
	"internal/settings": {
		external: []string{"github.com/peterbourgon/ff/v3", "github.com/dustin/go-humanize"},
		reason:   "it reads and describes settings of any program, and does not know processes, hubs or clients",
	},
	"internal/command": {
		internal: []string{"internal/settings"},
		external: []string{"golang.org/x/term"},
		reason:   "all programs import it, so what it imports is in each of them",
	},
	"internal/command/connect": {
		internal: []string{"client", "internal/certs", "internal/keyfile", "internal/settings", "wire"},
		reason:   "it has the settings of clients, and a client must not get a hub",
	},
	"internal/command/serve": {
		internal: []string{"hub"},
		reason:   "it runs a hub and does not know settings",
	},
	"internal/command/server": {
		internal: []string{
			"hub", "internal/admin", "internal/certs", "internal/command", "internal/command/serve", "internal/keyfile", "internal/notify",
			"internal/settings", "internal/tokens", "internal/tracing", "natscluster", "wire",
		},
		external: []string{"golang.org/x/sync"},
		reason:   "it is start_server, which has no client",
	},
	"internal/command/simulation": {
		internal: []string{"client", "hub", "internal/command", "internal/command/connect", "internal/command/serve", "internal/natsserver", "internal/settings", "internal/simulation", "natscluster", "wire"},
		reason:   "it is start_simulation, which has hubs and a NATS server for -embed, but no admin address and no traces",
	},
	"internal/command/hubctl": {
		internal: []string{
			"client", "internal/command", "internal/command/connect", "internal/keyfile", "internal/limitlog", "internal/settings", "internal/stats", "internal/tokens", "wire",
		},
		external: []string{"github.com/dustin/go-humanize"},
		reason:   "it is hubctl, a small client without a hub",
	},
	"internal/command/programtest": {
		internal: []string{"client", "internal/certs/testcerts", "internal/command"},
		external: []string{"go.uber.org/goleak"},
		reason:   "only tests use it, also those of the programs, which it therefore does not import",
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
		internal: []string{"internal/command", "internal/command/hubctl", "internal/command/server", "internal/command/simulation", "internal/settings"},
		reason:   "it writes files with the documents of the programs",
	},
	"internal/architecture": {
		reason: "it reads sources and calls none of them",
	},
	"cmd/hubctl":           mainRule("hubctl"),
	"cmd/start_server":     mainRule("server"),
	"cmd/start_simulation": mainRule("simulation"),
}

// mainRule returns the rule of the executable whose program is a package below internal/command.
func mainRule(program string) importRule {
	return importRule{
		internal: []string{"internal/command", "internal/command/" + program},
		reason:   mainReason,
	}
}

const mainReason = "a main is one call, because tests can run everything else without a process"

// forbiddenDeps lists the packages that an executable must not link, also not by other
// packages, and the reason. A path stands for itself and all packages below it.
var forbiddenDeps = map[string][]forbiddenDep{
	"cmd/hubctl": {
		{"github.com/nats-io", "only a hub of a cluster and start_simulation -embed need NATS"},
		{module + "/hub", "hubctl is a client"},
		{module + "/internal/admin", "hubctl has no admin address"},
		{module + "/internal/tracing", "hubctl has no traces"},
		{"go.opentelemetry.io", "the exporter of traces doubles the size of hubctl"},
		{"google.golang.org", "gRPC and its messages come with the exporter of traces"},
		{"github.com/prometheus", "hubctl has no metrics"},
		{"github.com/nats-io", "hubctl is no member of a cluster"},
	},
	"client": {
		{"net/http", "a program that imports the client must not get an HTTP server"},
	},
	"cmd/start_simulation": {
		{module + "/internal/admin", "the hub of -embed has no admin address"},
		{module + "/internal/tracing", "the hub of -embed has no traces"},
		{"go.opentelemetry.io", "the exporter of traces doubles the size of start_simulation"},
		{"google.golang.org", "gRPC and its messages come with the exporter of traces"},
	},
	"cmd/start_server": {
		{module + "/client", "start_server is no client"},
		{"github.com/nats-io/nats-server", "NATS is a program of its own in production"},
	},
}

// forbiddenDep is a package that an executable must not link.
type forbiddenDep struct{ path, reason string }

// testLibraries are modules that all tests may import.
var testLibraries = []string{"go.uber.org/goleak", "pgregory.net/rapid", "go.yaml.in/yaml/v3", "github.com/gobwas/ws", "github.com/coder/websocket", "github.com/nats-io/nats-server/v2", "github.com/nats-io/jwt/v2", "github.com/nats-io/nkeys"}
