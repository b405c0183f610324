package main

import (
	"runtime/debug"
	"testing"
)

func TestCommit(t *testing.T) {
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"}
	for _, test := range []struct {
		name     string
		settings []debug.BuildSetting
		want     string
	}{
		{"clean", []debug.BuildSetting{revision, {Key: "vcs.modified", Value: "false"}}, "commit 0123456789ab"},
		{"modified", []debug.BuildSetting{revision, {Key: "vcs.modified", Value: "true"}}, "commit 0123456789ab with uncommitted changes"},
		{"without version control", nil, "an unknown commit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := commit(test.settings); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
