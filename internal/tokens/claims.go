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
	name string
	want string // what is allowed, as the end of a sentence "allowed are …"
	read func(c *Claims, value json.RawMessage) error
}

var claims = []claim{
	{"hub_id", fmt.Sprintf("ids from 1 to %d, best as text", uint64(IDMost)), func(c *Claims, value json.RawMessage) (err error) {
		c.ID, err = strconv.ParseUint(unquoted(value), 10, 64)
		return ifNot(err, c.ID > 0 && c.ID <= IDMost)
	}},
	{"hub_send", `lists of ids and ranges, such as ["2", "5-10"]`, readTo},
	{"hub_list", "true and false", func(c *Claims, value json.RawMessage) error { return readMay(&c.NoList, value) }},
	{"hub_watch", "true and false", func(c *Claims, value json.RawMessage) error { return readMay(&c.NoWatch, value) }},
	{"hub_max_body", "bytes from 0", func(c *Claims, value json.RawMessage) error {
		err := json.Unmarshal(value, &c.MaxBody)
		return ifNot(err, c.MaxBody >= 0)
	}},
	{"hub_messages_per_second", "numbers from 0", func(c *Claims, value json.RawMessage) error { return readRate(&c.Messages, value) }},
	{"hub_bytes_per_second", "numbers from 0", func(c *Claims, value json.RawMessage) error { return readRate(&c.Bytes, value) }},
}

// errOutside says that a value is not allowed. What is, take says.
var errOutside = errors.New("outside of what is allowed")

// take reads the claim for c. null is as if it were absent.
func (one *claim) take(c *Claims, value json.RawMessage) error {
	if bytes.Equal(value, []byte("null")) {
		return nil
	}
	if one.read(c, value) != nil {
		return fmt.Errorf("%s %s: allowed are %s", one.name, shown(value), one.want)
	}
	return nil
}

// shown returns a value as it stands, on one line and not too long.
func shown(value json.RawMessage) string {
	var line bytes.Buffer
	if json.Compact(&line, value) != nil {
		return "?"
	}
	return fmt.Sprintf("%.60s", &line)
}

func readTo(c *Claims, value json.RawMessage) error {
	var list []json.RawMessage
	if err := json.Unmarshal(value, &list); err != nil {
		return err
	}
	all := make([]Range, 0, len(list))
	for _, one := range list {
		r, err := ParseRange(unquoted(one))
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	c.To = merged(all)
	return nil
}

// merged returns the same ids by as few ranges as there can be, in ascending order, and in memory
// of their own size: a connection keeps them for as long as it lives.
func merged(all []Range) []Range {
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	few := all[:0]
	for _, r := range all {
		last := len(few) - 1
		if last >= 0 && (r.First <= few[last].Last || r.First-1 == few[last].Last) {
			few[last].Last = max(few[last].Last, r.Last)
			continue
		}
		few = append(few, r)
	}
	if len(few) < cap(few) {
		few = append(make([]Range, 0, len(few)), few...)
	}
	return few
}

func readMay(not *bool, value json.RawMessage) error {
	var may bool
	err := json.Unmarshal(value, &may)
	*not = !may
	return err
}

func readRate(rate *float64, value json.RawMessage) error {
	err := json.Unmarshal(value, rate)
	return ifNot(err, *rate >= 0)
}

// unquoted returns a number, or text in decimal as it is written for programs that cannot read
// large numbers.
func unquoted(value json.RawMessage) string { return strings.Trim(string(value), `"`) }

func ifNot(err error, inside bool) error {
	if err == nil && !inside {
		return errOutside
	}
	return err
}
