package client

import (
	"errors"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

func TestOptions_Validation(t *testing.T) {
	for _, test := range []struct {
		name    string
		options Options
		want    string // part of the error; "": no error
	}{
		{"none", Options{}, ""},
		{"the smallest", Options{MaxBody: 1, MaxUnread: 1, ReadBuffer: 1, MaxQueued: 1, MaxList: 1, FrameTimeout: 1, CloseTimeout: 1}, ""},
		{"Version", Options{Version: 3}, "Version is 3"},
		{"Name", Options{Name: strings.Repeat("x", 257)}, "Name has 257 bytes"},
		{"MaxBody", Options{MaxBody: -1}, "MaxBody is -1"},
		{"MaxBody above what the wire can say", Options{MaxBody: wire.MaxBodyLimit + 1}, "MaxBody"},
		{"MaxUnread", Options{MaxUnread: -5}, "MaxUnread is -5"},
		{"ReadBuffer", Options{ReadBuffer: -1}, "ReadBuffer is -1"},
		{"MaxQueued", Options{MaxQueued: -1}, "MaxQueued"},
		{"MaxList", Options{MaxList: -1}, "MaxList"},
		{"FrameTimeout", Options{FrameTimeout: -time.Second}, "FrameTimeout is -1s"},
		{"CloseTimeout", Options{CloseTimeout: -1}, "CloseTimeout"},
	} {
		t.Run(test.name, func(t *testing.T) {
			resolved, err := test.options.withDefaults()
			if test.want == "" {
				if err != nil || resolved.MaxBody == 0 || resolved.MaxUnread == 0 || resolved.MaxQueued == 0 ||
					resolved.MaxList == 0 || resolved.FrameTimeout == 0 || resolved.CloseTimeout == 0 {
					t.Errorf("%+v, %v", resolved, err)
				}
				return
			}
			near, far := net.Pipe()
			if _, err := NewConn(t.Context(), near, &test.options); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("NewConn: %v, want one with %q", err, test.want)
			}
			far.SetReadDeadline(time.Now().Add(testTimeout))
			if _, err := far.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("NewConn has failed, and has not closed the connection")
			}
			if _, err := Dial(t.Context(), "127.0.0.1:1", &test.options); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Dial: %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestOptions_Defaults(t *testing.T) {
	want := Options{
		MaxBody: 1 << 20, MaxUnread: 1 << 20, MaxQueued: 256 << 10, MaxList: 1_000_000,
		FrameTimeout: 30 * time.Second, CloseTimeout: 5 * time.Second,
	}
	if got, err := (*Options)(nil).withDefaults(); !reflect.DeepEqual(got, want) || err != nil {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}
