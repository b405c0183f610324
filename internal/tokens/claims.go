package tokens

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// claim is one of those that say what a client may do.
type claim struct {
	name    string
	allowed string // what is allowed, as the end of a sentence "allowed are …"
	decode  func(c *Claims, value json.RawMessage) error
}

var hubClaims = []claim{
	{"hub_id", fmt.Sprintf("ids from 1 to %d, best as text", uint64(MaxID)), func(c *Claims, value json.RawMessage) (err error) {
		c.ID, err = strconv.ParseUint(trimQuotes(value), 10, 64)
		return checkAllowed(err, c.ID > 0 && c.ID <= MaxID)
	}},
	{"hub_send", `lists of ids and ranges, such as ["2", "5-10"]`, parseRanges},
	{"hub_list", "true and false", func(c *Claims, value json.RawMessage) error { return parsePermission(&c.NoList, value) }},
	{"hub_watch", "true and false", func(c *Claims, value json.RawMessage) error { return parsePermission(&c.NoWatch, value) }},
	{"hub_max_body", "bytes from 0", func(c *Claims, value json.RawMessage) error {
		err := json.Unmarshal(value, &c.MaxBody)
		return checkAllowed(err, c.MaxBody >= 0)
	}},
	{"hub_messages_per_second", "numbers from 0", func(c *Claims, value json.RawMessage) error { return parseRate(&c.MessageRate, value) }},
	{"hub_bytes_per_second", "numbers from 0", func(c *Claims, value json.RawMessage) error { return parseRate(&c.ByteRate, value) }},
}

// errNotAllowed says that a value is not allowed. What is, take says.
var errNotAllowed = errors.New("outside of what is allowed")

// parse reads the claim for c. null is as if it were absent.
func (cl *claim) parse(c *Claims, value json.RawMessage) error {
	if bytes.Equal(value, []byte("null")) {
		return nil
	}
	if cl.decode(c, value) != nil {
		return fmt.Errorf("%s %s: allowed are %s", cl.name, formatValue(value), cl.allowed)
	}
	return nil
}

// formatValue returns a value as it stands, on one line and not too long.
func formatValue(value json.RawMessage) string {
	var buf bytes.Buffer
	if json.Compact(&buf, value) != nil {
		return "?"
	}
	return fmt.Sprintf("%.60s", &buf)
}

func parseRanges(c *Claims, value json.RawMessage) error {
	var list []json.RawMessage
	if err := json.Unmarshal(value, &list); err != nil {
		return err
	}
	ranges := make([]Range, 0, len(list))
	for _, item := range list {
		r, err := ParseRange(trimQuotes(item))
		if err != nil {
			return err
		}
		ranges = append(ranges, r)
	}
	c.To = mergeRanges(ranges)
	return nil
}

// mergeRanges returns the same ids by as few ranges as there can be, in ascending order, and in memory
// of their own size: a connection keeps them for as long as it lives.
func mergeRanges(ranges []Range) []Range {
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	out := ranges[:0]
	for _, r := range ranges {
		last := len(out) - 1
		if last >= 0 && (r.First <= out[last].Last || r.First-1 == out[last].Last) {
			out[last].Last = max(out[last].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	if len(out) < cap(out) {
		out = append(make([]Range, 0, len(out)), out...)
	}
	return out
}

func parsePermission(denied *bool, value json.RawMessage) error {
	var allowed bool
	err := json.Unmarshal(value, &allowed)
	*denied = !allowed
	return err
}

func parseRate(rate *float64, value json.RawMessage) error {
	err := json.Unmarshal(value, rate)
	return checkAllowed(err, *rate >= 0)
}

// trimQuotes returns a number, or text in decimal as it is written for programs that cannot read
// large numbers.
func trimQuotes(value json.RawMessage) string { return strings.Trim(string(value), `"`) }

func checkAllowed(err error, allowed bool) error {
	if err == nil && !allowed {
		return errNotAllowed
	}
	return err
}
