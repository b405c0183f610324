package hub

import (
	"strings"
	"testing"
)

func TestResumeSecrets_Verify(t *testing.T) {
	hubs, same, others := newResumeSecrets([]byte("key")), newResumeSecrets([]byte("key")), newResumeSecrets([]byte("other key"))
	var lone *resumeSecrets
	secret := hubs.create(7, "subject")
	random, code, _ := strings.Cut(secret, ".")
	for _, test := range []struct {
		name            string
		by              *resumeSecrets
		id              uint64
		subject, secret string
		want            bool
	}{
		{"same hub", &hubs, 7, "subject", secret, true},
		{"other hub of the cluster", &same, 7, "subject", secret, true},
		{"other cluster", &others, 7, "subject", secret, false},
		{"lone hub", lone, 7, "subject", secret, false},
		{"other id", &hubs, 8, "subject", secret, false},
		{"other subject", &hubs, 7, "subjec", secret, false},
		{"part of the random moved to the subject", &hubs, 7, random[25:] + "subject", random[:25] + "." + code, false},
		{"without a code", &hubs, 7, "subject", random, false},
		{"with an empty code", &hubs, 7, "subject", random + ".", false},
		{"empty", &hubs, 7, "subject", "", false},
		{"secret of a lone hub", &hubs, 7, "subject", lone.create(7, "subject"), false},
	} {
		if got := test.by.verify(test.id, test.subject, test.secret); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	if hubs.create(7, "subject") == secret {
		t.Error("two sessions have the same secret")
	}
	if hubs.cluster == "" || hubs.cluster == others.cluster || lone.clusterName() != "" {
		t.Errorf("the clusters are called %q, %q and %q", hubs.cluster, others.cluster, lone.clusterName())
	}
}
