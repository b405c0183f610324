package natscluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfig_Validate(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		config Config
		want   string // in the error; empty: valid
	}{
		"zero":                  {Config{}, ""},
		"URLs":                  {Config{URLs: []string{"nats://user:secret@a:4222", "tls://token@b"}}, ""},
		"URL of a WebSocket":    {Config{URLs: []string{"wss://a"}}, `"wss://a" is not a URL of NATS`},
		"URL without a scheme":  {Config{URLs: []string{"localhost:4222"}}, "is not a URL of NATS"},
		"URL without a host":    {Config{URLs: []string{"nats://user:secret@"}}, `"nats:" is not a URL of NATS`},
		"URL of something else": {Config{URLs: []string{"http://user:secret@a"}}, `"http://a" is not a URL of NATS`},
		"URL that is none":      {Config{URLs: []string{"nats://user:secret@a:b"}}, "cannot be parsed"},
		"longest name":          {Config{Name: strings.Repeat("x", maxName)}, ""},
		"name too long":         {Config{Name: strings.Repeat("x", maxName+1)}, "cluster name"},
		"letters":               {Config{Name: "aZ_-9"}, ""},
		"dot":                   {Config{Name: "a.b"}, "cluster name"},
		"wildcard":              {Config{Name: "*"}, "cluster name"},
		"space":                 {Config{Name: "a b"}, "cluster name"},
		"other letters":         {Config{Name: "ä"}, "cluster name"},
		"shortest key":          {Config{Key: make([]byte, MinKey)}, ""},
		"key too short":         {Config{Key: make([]byte, MinKey-1)}, "15 bytes, the minimum is 16"},
		"replicas":              {Config{Replicas: 5}, ""},
		"too many replicas":     {Config{Replicas: 6}, "6 replicas"},
		"negative replicas":     {Config{Replicas: -1}, "-1 replicas"},
		"two files":             {Config{CredentialsFile: "a", NKeySeedFile: "b"}, "exclude each other"},
		"no credentials":        {Config{CredentialsFile: empty}, "credentials file " + empty},
		"no NKey":               {Config{NKeySeedFile: empty}, "NKey file " + empty},
	}
	for name, tt := range tests {
		err := tt.config.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has the password: %v", name, err)
		}
	}
}
