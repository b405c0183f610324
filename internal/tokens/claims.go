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

// claim is a claim of the hub, which grants or limits what a client may do.
type claim struct {
	name    string
	allowed string // values that are allowed, as the end of a text "allowed are …"
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

// errNotAllowed says that a value is outside of its range. Its text is never shown: parse
// names the allowed values.
var errNotAllowed = errors.New("value not allowed")

// parse sets the field of c from the value of the claim. The value null has no effect.
func (cl *claim) parse(c *Claims, value json.RawMessage) error {
	if bytes.Equal(value, []byte("null")) {
		return nil
	}
	if cl.decode(c, value) != nil {
		return fmt.Errorf("%s %s: allowed are %s", cl.name, formatValue(value), cl.allowed)
	}
	return nil
}

// formatValue returns a value on one line, cut after 60 characters.
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

// mergeRanges returns the smallest number of ranges with the same ids, in ascending order. The
// slice has no spare capacity, because a connection holds it as long as it is open.
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

// trimQuotes returns the digits of a number or of a decimal string. Issuers write large
// numbers as strings because many programs have only 53 bits for a number.
func trimQuotes(value json.RawMessage) string { return strings.Trim(string(value), `"`) }

func checkAllowed(err error, allowed bool) error {
	if err == nil && !allowed {
		return errNotAllowed
	}
	return err
}
