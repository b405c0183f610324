package hub

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// resumeSecrets makes the secrets with which clients resume their sessions. Those of a cluster can
// be checked by each of its hubs: a client that has one was given its id by a hub of the cluster.
// The nil pointer is that of a lone hub. A resumeSecrets is static after construction.
type resumeSecrets struct {
	key     []byte
	cluster string // name of the cluster for clients
}

// secretMACLen is the number of bytes of the code in a secret of a cluster.
const secretMACLen = 16

// newResumeSecrets returns the resumeSecrets of a cluster with that key.
func newResumeSecrets(key []byte) resumeSecrets {
	return resumeSecrets{
		key:     deriveKey(key, "resume secret"),
		cluster: base64.RawURLEncoding.EncodeToString(deriveKey(key, "cluster name")[:9]),
	}
}

// deriveKey returns the key for one purpose, from that of the cluster. Neither can be computed from
// the other keys.
func deriveKey(key []byte, purpose string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("message-hub " + purpose))
	return mac.Sum(nil)
}

// create returns a new secret for a session.
func (r *resumeSecrets) create(id uint64, subject string) string {
	random := rand.Text()
	if r == nil {
		return random
	}
	return random + "." + r.code(id, subject, random)
}

// verify reports whether a hub of the cluster has created secret for a session with that id and
// subject. A lone hub cannot tell, and returns false.
func (r *resumeSecrets) verify(id uint64, subject, secret string) bool {
	random, code, ok := strings.Cut(secret, ".")
	return ok && r != nil && hmac.Equal([]byte(code), []byte(r.code(id, subject, random)))
}

// code returns the code of a secret.
func (r *resumeSecrets) code(id uint64, subject, random string) string {
	mac := hmac.New(sha256.New, r.key)
	mac.Write(binary.BigEndian.AppendUint64(nil, id))
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(random))))
	mac.Write([]byte(random))
	mac.Write([]byte(subject))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:secretMACLen])
}

// secrets returns what makes the secrets of sessions; nil: the hub is alone.
func (h *Hub) secrets() *resumeSecrets {
	if m := h.member.Load(); m != nil {
		return &m.secrets
	}
	return nil
}

// clusterName returns the name of the cluster for clients; "": the hub is alone.
func (r *resumeSecrets) clusterName() string {
	if r == nil {
		return ""
	}
	return r.cluster
}
