package command

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/sechlol/go-message-hub/client"
)

// kind is a kind of value: how it is read, how it is written, and what is
// allowed.
type kind[T any] struct {
	parse  func(text string) (T, error) // whatever the error says, allowed says it better
	format func(T) string
	limits string   // for the usage; may be empty
	want   string   // what is allowed, as the end of a sentence "allowed are …"
	words  []string // all that is allowed, if it is a few words
	path   bool     // it is the name of a file
}

var errOutside = errors.New("outside of what is allowed")

// wrongPart is an error that says which of several parts of a value is not allowed.
type wrongPart string

// Error returns what it is.
func (w wrongPart) Error() string { return string(w) }

// whole is a whole number from least to most.
func whole(least, most int) kind[int] {
	limits := fmt.Sprintf("%d to %d", least, most)
	return kind[int]{
		parse:  within(strconv.Atoi, least, most),
		format: strconv.Itoa,
		limits: limits,
		want:   "whole numbers from " + limits,
	}
}

// size is a number of bytes from least to most, plain or with a unit.
func size(least, most int64) kind[int64] {
	limits := fmt.Sprintf("%s to %s", formatSize(least), formatSize(most))
	return kind[int64]{
		parse:  within(parseSize, least, most),
		format: formatSize,
		limits: limits,
		want:   fmt.Sprintf("sizes from %s, in bytes or with a unit (65536, 64KiB, 256MiB, 1GiB)", limits),
	}
}

// span is a time from least to most.
func span(least, most time.Duration) kind[time.Duration] {
	limits := fmt.Sprintf("%s to %s", formatSpan(least), formatSpan(most))
	return kind[time.Duration]{
		parse:  within(time.ParseDuration, least, most),
		format: formatSpan,
		limits: limits,
		want:   fmt.Sprintf("times from %s, with a unit (500ms, 10s, 1m30s)", limits),
	}
}

// yesNo is true or false.
func yesNo() kind[bool] {
	return kind[bool]{parse: strconv.ParseBool, format: strconv.FormatBool, want: "true and false", words: []string{"true", "false"}}
}

// oneOf is one of a few words.
func oneOf(words ...string) kind[string] {
	limits := strings.Join(words[:len(words)-1], ", ")
	last := words[len(words)-1]
	return kind[string]{
		parse: func(text string) (string, error) {
			if !slices.Contains(words, text) {
				return "", errOutside
			}
			return text, nil
		},
		format: asIs,
		limits: limits + " or " + last,
		want:   limits + " and " + last,
		words:  words,
	}
}

// text is anything.
func text() kind[string] {
	return kind[string]{parse: func(t string) (string, error) { return t, nil }, format: asIs, want: "any text"}
}

// path is the name of a file.
func path() kind[string] {
	k := text()
	k.path = true
	k.want = "names of files"
	return k
}

// endless is the count that nothing reaches.
const endless = math.MaxInt

// count is how often something happens before it ends: a number, or "all" for never.
func count() kind[int] {
	return kind[int]{
		parse: func(text string) (int, error) {
			if text == "all" {
				return endless, nil
			}
			return within(strconv.Atoi, 1, endless-1)(text)
		},
		format: func(n int) string {
			if n == endless {
				return "all"
			}
			return strconv.Itoa(n)
		},
		limits: "from 1, or all",
		want:   "whole numbers from 1, and all",
	}
}

// ids are ids of clients, from one to most.
func ids(most int) kind[[]uint64] {
	return kind[[]uint64]{
		parse: func(text string) (list []uint64, err error) {
			for part := range strings.SplitSeq(text, ",") {
				id, err := strconv.ParseUint(strings.TrimSpace(part), 10, 64)
				if err != nil {
					return nil, wrongPart(fmt.Sprintf("%q is no id", part))
				}
				list = append(list, id)
			}
			if len(list) > most {
				return nil, wrongPart(fmt.Sprintf("these are %d", len(list)))
			}
			return list, nil
		},
		format: func(list []uint64) string {
			texts := make([]string, len(list))
			for i, id := range list {
				texts[i] = strconv.FormatUint(id, 10)
			}
			return strings.Join(texts, ",")
		},
		want: fmt.Sprintf("1 to %d ids, in decimal and separated by commas", most),
	}
}

// maxPrefixes is how many networks a setting can have.
const maxPrefixes = 1000

// prefixes are addresses and networks. An address is the network of itself.
func prefixes() kind[[]netip.Prefix] {
	return kind[[]netip.Prefix]{
		parse: func(text string) (list []netip.Prefix, err error) {
			if text == "" {
				return nil, nil
			}
			for part := range strings.SplitSeq(text, ",") {
				prefix, err := parsePrefix(strings.TrimSpace(part))
				switch {
				case err != nil && part != text:
					return nil, wrongPart(shown(part) + " is none")
				case err != nil:
					return nil, err
				}
				list = append(list, prefix)
			}
			if len(list) > maxPrefixes {
				return nil, wrongPart(fmt.Sprintf("these are %d", len(list)))
			}
			return list, nil
		},
		format: func(list []netip.Prefix) string {
			texts := make([]string, len(list))
			for i, p := range list {
				if texts[i] = p.String(); p.IsSingleIP() {
					texts[i] = p.Addr().String()
				}
			}
			return strings.Join(texts, ",")
		},
		want: fmt.Sprintf("up to %d addresses and networks, separated by commas (10.0.0.5,10.1.0.0/16,2001:db8::/32)", maxPrefixes),
	}
}

// parsePrefix reads an address or a network, whose bits beyond its length must be 0: others are a slip, most likely.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err == nil && (prefix != prefix.Masked() || prefix.Addr().Is4In6()) {
		err = errOutside
	}
	return prefix, err
}

// host is a name or an address without a port.
func host() kind[string] {
	return kind[string]{
		parse: func(text string) (string, error) {
			if _, _, err := net.SplitHostPort(text); err == nil {
				return "", errOutside
			}
			bare, ok := strings.CutPrefix(text, "[")
			if ok {
				bare, ok = strings.CutSuffix(bare, "]")
				ok = ok && strings.Contains(bare, ":")
			} else {
				ok = true
			}
			if !ok || bare != "" && !isHost(bare) {
				return "", errOutside
			}
			return bare, nil
		},
		format: asIs,
		want:   "names and addresses without a port, which -port gives",
	}
}

// perSecond is a rate.
func perSecond() kind[float64] {
	return kind[float64]{
		parse: func(text string) (float64, error) {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil || !(n >= 0 && n <= 1e12) {
				return 0, errOutside
			}
			return n, nil
		},
		format: func(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) },
		limits: "0 to 1000000000000",
		want:   "0 to 1000000000000",
	}
}

// hubHost is where a hub is: a host, with or without a port, and with or without a scheme.
func hubHost() kind[string] {
	return kind[string]{
		parse: func(text string) (string, error) {
			if _, err := client.ParseAddress(text); err != nil {
				return "", wrongPart(errors.Unwrap(err).Error())
			}
			return text, nil
		},
		format: asIs,
		want:   "names and addresses, with or without a port, such as hub.example, [::1]:9999 and hubs://hub.example",
	}
}

// endpoint is an address with a port, or none.
func endpoint() kind[string] {
	const none = "off"
	return kind[string]{
		parse: func(text string) (string, error) {
			if text == "" || text == none {
				return "", nil
			}
			host, port, err := net.SplitHostPort(text)
			if err != nil {
				return "", err
			}
			if host != "" && !isHost(host) {
				return "", errOutside
			}
			_, err = within(strconv.Atoi, 0, math.MaxUint16)(port)
			return text, err
		},
		format: func(address string) string {
			if address == "" {
				return none
			}
			return address
		},
		limits: "host:port or " + none,
		want:   "addresses with a port (localhost:9990, 10.0.0.1:9990, :9990), and " + none,
	}
}

// collector is the URL of a service, or empty. What it says there of who it is does not belong into an
// URL, which is logged.
func collector() kind[string] {
	return kind[string]{
		parse: func(text string) (string, error) {
			if text == "" {
				return "", nil
			}
			at, err := url.Parse(text)
			if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Hostname() == "" || at.User != nil || strings.ContainsAny(text, "?#") {
				return "", errOutside
			}
			return text, nil
		},
		format: asIs,
		limits: "http://host:port or https://host:port",
		want:   "URLs with http or https and a host, without user, password or query (http://localhost:4318)",
	}
}

// within adds limits to a parser.
func within[T int | int64 | time.Duration](parse func(string) (T, error), least, most T) func(string) (T, error) {
	return func(text string) (T, error) {
		value, err := parse(text)
		if err != nil {
			return 0, err
		}
		if value < least || value > most {
			return 0, errOutside
		}
		return value, nil
	}
}

func parseSize(text string) (int64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil || n > 1<<62 {
		return 0, errOutside
	}
	return int64(n), nil
}

// formatSize writes what parseSize reads, with the largest unit that leaves a
// whole number.
func formatSize(n int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 50, "PiB"}, {1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n > 0 && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// formatSpan writes a duration without the zeros that Duration.String adds: 24h,
// not 24h0m0s.
func formatSpan(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func asIs(s string) string { return s }
