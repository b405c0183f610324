package natscluster

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sechlol/go-message-hub/internal/cluster/lease"
)

// The codes of errors of JetStream that nats.go does not name, from errors.json of nats-server.
const (
	codeAccountResources   jetstream.ErrorCode = 10002
	codeNoSuitablePeers    jetstream.ErrorCode = 10005
	codeClusterUnavailable jetstream.ErrorCode = 10008
	codeResources          jetstream.ErrorCode = 10023
	codeStreamLimit        jetstream.ErrorCode = 10027
	codeMemoryResources    jetstream.ErrorCode = 10028
	codeStorageResources   jetstream.ErrorCode = 10047
	codeNoReplicas         jetstream.ErrorCode = 10074
	codeNoLimits           jetstream.ErrorCode = 10120
)

// Advice returns what an operator can do about an error of Join, of Config.OnRetry or of
// Cluster.Err.
func Advice(err error) string {
	var payload *payloadError
	switch {
	case errors.As(err, &payload):
		return "set max_payload of nats-server to at least 64KB; its default is 1MB"
	case errors.Is(err, nats.ErrPermissionViolation):
		return "permit the NATS user of the hub to publish and subscribe to the subjects that docs/CLUSTER.md lists"
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
		return "give the hub credentials that NATS accepts: a user in the URL, -cluster-credentials or -cluster-nkey"
	case errors.Is(err, nats.ErrMaxConnectionsExceeded), errors.Is(err, nats.ErrMaxAccountConnectionsExceeded):
		return "raise the maximum number of connections, of nats-server or of the account: each hub needs two"
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return "enable JetStream in nats-server: a jetstream block in its configuration, or its flag -js"
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return "enable JetStream for the account of the hub in NATS"
	case errors.Is(err, ErrOtherKey):
		return "give all hubs of the cluster the same -cluster-key-file, or none, or this hub another -cluster-name; docs/CLUSTER.md says how to change the key"
	case errors.Is(err, ErrUsedUp), errors.Is(err, lease.ErrCounter):
		return "give the cluster a new name, on all hubs: -cluster-name"
	case errors.Is(err, lease.ErrTaken):
		return "start the hub again: it takes a number of its own"
	}
	if advice := apiAdvice(apiErrorCode(err)); advice != "" {
		return advice
	}
	return networkAdvice(err)
}

// apiAdvice is Advice for an error of JetStream with this code.
func apiAdvice(code jetstream.ErrorCode) string {
	switch code {
	case codeAccountResources, codeResources, codeMemoryResources, codeStorageResources, codeStreamLimit, codeNoLimits:
		return "raise the limits of JetStream, of the server or of the account: a cluster needs two streams and 1 MiB of file storage"
	case codeNoSuitablePeers, codeNoReplicas:
		return "start three NATS servers with JetStream, or set -cluster-replicas=1 if there are fewer"
	case codeClusterUnavailable:
		return "start the other NATS servers: JetStream needs most of them"
	}
	return ""
}

// networkAdvice is Advice for an error of the connection, or of a server that does not answer.
func networkAdvice(err error) string {
	var cert *tls.CertificateVerificationError
	var dns *net.DNSError
	switch {
	case errors.As(err, &cert):
		return "give the hub the authority of the certificate of NATS: -cluster-tls-ca"
	case isAlert(err), errors.Is(err, nats.ErrTLS), errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted):
		return "check the TLS settings of NATS and of the hub: -cluster-tls-ca, -cluster-tls-cert and -cluster-tls-key"
	case errors.As(err, &dns):
		return "check the host names in -cluster"
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders), errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return "check that most NATS servers with JetStream are running and reach each other; this also happens for some seconds after one has ended"
	}
	return "check that NATS is running and that -cluster names its address"
}

// isAlert reports whether err is an alert of TLS: what the server says about the certificate of
// the hub. The alerts of crypto/tls have no exported type.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
