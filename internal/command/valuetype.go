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

// valueType is the type of a value: how to parse and format the value, and which values are
// allowed.
type valueType[T any] struct {
	parse   func(text string) (T, error) // the error is shown only if it is an invalidPartError
	format  func(T) string
	limits  string   // for the usage; can be empty
	allowed string   // allowed values, as the end of the sentence "allowed are …"
	choices []string // all allowed values, if they are a few words
	isPath  bool     // the value is a file name
}

var errNotAllowed = errors.New("value not allowed")

// invalidPartError is an error that names the invalid part of a value.
type invalidPartError string

// Error implements error.
func (e invalidPartError) Error() string { return string(e) }

// intRange is an integer from minValue to maxValue.
func intRange(minValue, maxValue int) valueType[int] {
	limits := fmt.Sprintf("%d to %d", minValue, maxValue)
	return valueType[int]{
		parse:   within(strconv.Atoi, minValue, maxValue),
		format:  strconv.Itoa,
		limits:  limits,
		allowed: "whole numbers from " + limits,
	}
}

// size is a number of bytes from minValue to maxValue, plain or with a unit.
func size(minValue, maxValue int64) valueType[int64] {
	limits := fmt.Sprintf("%s to %s", formatSize(minValue), formatSize(maxValue))
	return valueType[int64]{
		parse:   within(parseSize, minValue, maxValue),
		format:  formatSize,
		limits:  limits,
		allowed: fmt.Sprintf("sizes from %s, in bytes or with a unit (65536, 64KiB, 256MiB, 1GiB)", limits),
	}
}

// duration is a duration from minValue to maxValue.
func duration(minValue, maxValue time.Duration) valueType[time.Duration] {
	limits := fmt.Sprintf("%s to %s", formatDuration(minValue), formatDuration(maxValue))
	return valueType[time.Duration]{
		parse:   within(time.ParseDuration, minValue, maxValue),
		format:  formatDuration,
		limits:  limits,
		allowed: fmt.Sprintf("times from %s, with a unit (500ms, 10s, 1m30s)", limits),
	}
}

// boolean is true or false.
func boolean() valueType[bool] {
	return valueType[bool]{parse: strconv.ParseBool, format: strconv.FormatBool, allowed: "true and false", choices: []string{"true", "false"}}
}

// oneOf is one of the words in choices.
func oneOf(choices ...string) valueType[string] {
	limits := strings.Join(choices[:len(choices)-1], ", ")
	last := choices[len(choices)-1]
	return valueType[string]{
		parse: func(text string) (string, error) {
			if !slices.Contains(choices, text) {
				return "", errNotAllowed
			}
			return text, nil
		},
		format:  asIs,
		limits:  limits + " or " + last,
		allowed: limits + " and " + last,
		choices: choices,
	}
}

// anyText is any text.
func anyText() valueType[string] {
	return valueType[string]{parse: func(t string) (string, error) { return t, nil }, format: asIs, allowed: "any text"}
}

// filePath is a file name.
func filePath() valueType[string] {
	typ := anyText()
	typ.isPath = true
	typ.allowed = "file names"
	return typ
}

// unlimited is the count that is never reached.
const unlimited = math.MaxInt

// count is a number of events after which a program exits, or "all" for no limit.
func count() valueType[int] {
	return valueType[int]{
		parse: func(text string) (int, error) {
			if text == "all" {
				return unlimited, nil
			}
			return within(strconv.Atoi, 1, unlimited-1)(text)
		},
		format: func(n int) string {
			if n == unlimited {
				return "all"
			}
			return strconv.Itoa(n)
		},
		limits:  "from 1, or all",
		allowed: "whole numbers from 1, and all",
	}
}

// clientIDs is a list of 1 to maxIDs client ids.
func clientIDs(maxIDs int) valueType[[]uint64] {
	return valueType[[]uint64]{
		parse: func(text string) (list []uint64, err error) {
			for part := range strings.SplitSeq(text, ",") {
				id, err := strconv.ParseUint(strings.TrimSpace(part), 10, 64)
				if err != nil {
					return nil, invalidPartError(fmt.Sprintf("%q is not an id", part))
				}
				list = append(list, id)
			}
			if len(list) > maxIDs {
				return nil, invalidPartError(fmt.Sprintf("the number of entries is %d", len(list)))
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
		allowed: fmt.Sprintf("1 to %d ids, in decimal and separated by commas", maxIDs),
	}
}

// maxPrefixes is the maximum number of addresses and networks in a setting.
const maxPrefixes = 1000

// prefixes is a list of addresses and networks. An address is a network of one address.
func prefixes() valueType[[]netip.Prefix] {
	return valueType[[]netip.Prefix]{
		parse: func(text string) (list []netip.Prefix, err error) {
			if text == "" {
				return nil, nil
			}
			for part := range strings.SplitSeq(text, ",") {
				prefix, err := parsePrefix(strings.TrimSpace(part))
				switch {
				case err != nil && part != text:
					return nil, invalidPartError(quoted(part) + " is not an address or network")
				case err != nil:
					return nil, err
				}
				list = append(list, prefix)
			}
			if len(list) > maxPrefixes {
				return nil, invalidPartError(fmt.Sprintf("the number of entries is %d", len(list)))
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
		allowed: fmt.Sprintf("up to %d addresses and networks, separated by commas (10.0.0.5,10.1.0.0/16,2001:db8::/32)", maxPrefixes),
	}
}

// parsePrefix parses an address or a network. The bits of a network beyond its length must be
// 0, because other bits are most likely a mistake.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err == nil && (prefix != prefix.Masked() || prefix.Addr().Is4In6()) {
		err = errNotAllowed
	}
	return prefix, err
}

// hostName is a host name or an address, without a port.
func hostName() valueType[string] {
	return valueType[string]{
		parse: func(text string) (string, error) {
			if _, _, err := net.SplitHostPort(text); err == nil {
				return "", errNotAllowed
			}
			bare, ok := strings.CutPrefix(text, "[")
			if ok {
				bare, ok = strings.CutSuffix(bare, "]")
				ok = ok && strings.Contains(bare, ":")
			} else {
				ok = true
			}
			if !ok || bare != "" && !isHostName(bare) {
				return "", errNotAllowed
			}
			return bare, nil
		},
		format:  asIs,
		allowed: "names and addresses without a port; set the port with -port",
	}
}

// perSecond is a rate per second.
func perSecond() valueType[float64] {
	return valueType[float64]{
		parse: func(text string) (float64, error) {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil || !(n >= 0 && n <= 1e12) {
				return 0, errNotAllowed
			}
			return n, nil
		},
		format:  func(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) },
		limits:  "0 to 1000000000000",
		allowed: "0 to 1000000000000",
	}
}

// hubAddress is the address of a hub: a host, with or without a port and a scheme.
func hubAddress() valueType[string] {
	return valueType[string]{
		parse: func(text string) (string, error) {
			if _, err := client.ParseAddress(text); err != nil {
				return "", invalidPartError(errors.Unwrap(err).Error())
			}
			return text, nil
		},
		format:  asIs,
		allowed: "names and addresses, with or without a port, such as hub.example, [::1]:9999 and hubs://hub.example",
	}
}

// listenAddress is an address with a port, or off.
func listenAddress() valueType[string] {
	const none = "off"
	return valueType[string]{
		parse: func(text string) (string, error) {
			if text == "" || text == none {
				return "", nil
			}
			host, port, err := net.SplitHostPort(text)
			if err != nil {
				return "", err
			}
			if host != "" && !isHostName(host) {
				return "", errNotAllowed
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
		limits:  "host:port or " + none,
		allowed: "addresses with a port (localhost:9990, 10.0.0.1:9990, :9990), and " + none,
	}
}

// collectorURL is the URL of a collector, or empty. Credentials are not allowed in the URL,
// because the URL is logged.
func collectorURL() valueType[string] {
	return valueType[string]{
		parse: func(text string) (string, error) {
			if text == "" {
				return "", nil
			}
			u, err := url.Parse(text)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.ContainsAny(text, "?#") {
				return "", errNotAllowed
			}
			return text, nil
		},
		format:  asIs,
		limits:  "http://host:port or https://host:port",
		allowed: "URLs with http or https and a host, without user, password or query (http://localhost:4318)",
	}
}

// within returns parse with limits for the value.
func within[T int | int64 | time.Duration](parse func(string) (T, error), minValue, maxValue T) func(string) (T, error) {
	return func(text string) (T, error) {
		value, err := parse(text)
		if err != nil {
			return 0, err
		}
		if value < minValue || value > maxValue {
			return 0, errNotAllowed
		}
		return value, nil
	}
}

func parseSize(text string) (int64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil || n > 1<<62 {
		return 0, errNotAllowed
	}
	return int64(n), nil
}

// formatSize formats n for parseSize, with the largest unit that gives an integer.
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

// formatDuration formats d without the trailing zeros of Duration.String: 24h, not 24h0m0s.
func formatDuration(d time.Duration) string {
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
