package hub

// RejectReason is the reason why a connection was rejected. Its text is a label value of
// metrics and appears in the log.
type RejectReason uint8

// The reasons for which the hub rejects connections.
const (
	RejectFull    RejectReason = iota // Config.MaxClients is reached, and no session is resumed
	RejectAddress                     // Config.MaxPerAddress is reached for the connection's address
	RejectRate                        // Config.ConnectRate is exceeded for the connection's address
	RejectHeader                      // the required PROXY header is missing or malformed
	RejectOrigin                      // WebConfig.AllowedOrigins does not permit the origin of a web page
	RejectUpgrade                     // an HTTP request that does not become a WebSocket for another reason
	RejectPending                     // too many connections of a WebHandler have not sent their request
	RejectCluster                     // the hub is not sure of its number in the cluster
	numRejectReasons
)

var rejectReasonTexts = [numRejectReasons]string{
	RejectFull:    "too many clients",
	RejectAddress: "too many from its address",
	RejectRate:    "too fast from its address",
	RejectHeader:  "no PROXY header",
	RejectOrigin:  "foreign origin",
	RejectUpgrade: "no WebSocket request",
	RejectPending: "too many without a request",
	RejectCluster: "not in the cluster",
}

// String returns the text of the reason for metrics and the log.
func (r RejectReason) String() string {
	if r < numRejectReasons {
		return rejectReasonTexts[r]
	}
	return "?"
}

// RejectReasons returns all reject reasons.
func RejectReasons() []RejectReason { return valuesBelow(numRejectReasons) }
