package client_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/client"
)

func TestParseAddress(t *testing.T) {
	type address = client.Address
	for text, want := range map[string]struct {
		address  address
		hostPort string
	}{
		"localhost":             {address{"", "localhost", 0}, "localhost:9999"},
		"localhost:1":           {address{"", "localhost", 1}, "localhost:1"},
		":65535":                {address{"", "localhost", 65535}, "localhost:65535"},
		"::1":                   {address{"", "::1", 0}, "[::1]:9999"},
		"[::1]":                 {address{"", "::1", 0}, "[::1]:9999"},
		"[::1]:7":               {address{"", "::1", 7}, "[::1]:7"},
		"[fe80::1%eth0]:7":      {address{"", "fe80::1%eth0", 7}, "[fe80::1%eth0]:7"},
		"10.0.0.1:7":            {address{"", "10.0.0.1", 7}, "10.0.0.1:7"},
		"hub://host":            {address{"hub", "host", 0}, "host:9999"},
		"hub://host/":           {address{"hub", "host", 0}, "host:9999"},
		"hub://host:7/":         {address{"hub", "host", 7}, "host:7"},
		"HUB://host":            {address{"hub", "host", 0}, "host:9999"},
		"Hubs://[::1]/":         {address{"hubs", "::1", 0}, "[::1]:9999"},
		"hubs://hub.example:70": {address{"hubs", "hub.example", 70}, "hub.example:70"},
	} {
		got, err := client.ParseAddress(text)
		if err != nil || got != want.address || got.HostPort() != want.hostPort || got.TLS() != (want.address.Scheme == "hubs") {
			t.Errorf("%s: %+v, %s, %v, want %+v", text, got, got.HostPort(), err, want)
		}
		if again, err := client.ParseAddress(got.String()); err != nil || again != got {
			t.Errorf("%s is written as %s, which is %+v, %v", text, got, again, err)
		}
	}
}

func TestParseAddress_Errors(t *testing.T) {
	for text, want := range map[string]string{
		"":                   "missing host",
		"hub://":             "missing host",
		"HUBS://":            "missing host",
		"hub:///":            "missing host",
		"hub://:9999":        "missing host",
		"http://host":        "unknown scheme http://",
		"hub://host/a":       "unexpected path /a",
		"host//":             "unexpected path",
		"host?x=1":           "?x=1",
		"hub://host#here":    "#here",
		"hub://me:pass@host": "user info",
		"host:0":             "1 to 65535",
		"host:65536":         "1 to 65535",
		"host:http":          "1 to 65535",
		"host:":              "1 to 65535",
		"a:b:c":              "neither an IPv6 address",
		"[::1":               "not host:port",
		"[host]":             "neither an IPv6 address",
		"[::1]x:1":           "not host:port",
		"my host":            "space or unprintable",
		"hub://hub://host":   "unexpected path",
	} {
		if got, err := client.ParseAddress(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %+v, %v, want %q", text, got, err, want)
		}
	}
}

func TestParseAddresses(t *testing.T) {
	for list, want := range map[string]string{
		"host":                            "host",
		"a:1,b":                           "a:1 b",
		" a:1 ,\tb":                       "a:1 b",
		"::1,[::2]:7":                     "[::1] [::2]:7",
		"hubs://a/,HUBS://b:1":            "hubs://a hubs://b:1",
		"hub://a,b":                       "hub://a b",
		"hub.example:1,hub.example:2,:33": "hub.example:1 hub.example:2 localhost:33",
	} {
		addresses, err := client.ParseAddresses(list)
		if got := fmt.Sprint(addresses); err != nil || got != "["+want+"]" {
			t.Errorf("%q: %s, %v, want %s", list, got, err, want)
		}
	}
	for list, want := range map[string]string{
		"":            `address "": missing host`,
		" a":          "space or unprintable",
		"a,":          `address "": missing host`,
		"a,b:0":       `address "b:0": port is "0", must be from 1 to 65535`,
		"a,a:9999":    `addresses "a,a:9999": a:9999 is listed twice`,
		"b,hubs://a":  "some have the prefix hubs:// and some have not",
		"hubs://a, b": "some have the prefix hubs:// and some have not",
	} {
		if got, err := client.ParseAddresses(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %q", list, got, err, want)
		}
	}
}

// FuzzParseAddress checks that the String of a parsed address parses to the same address.
func FuzzParseAddress(f *testing.F) {
	for _, text := range []string{"", "localhost", "hub://[::1]:9999/", "HUBS://x", "::1%eth0", "a@b", ":1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := client.ParseAddress(text)
		if err != nil {
			return
		}
		if again, err := client.ParseAddress(a.String()); err != nil || again != a {
			t.Errorf("%q is %+v, written as %q, which is %+v, %v", text, a, a, again, err)
		}
	})
}
