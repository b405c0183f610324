package stats

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// near reports whether got is within 1 % of want.
func near(got, want time.Duration) bool {
	return math.Abs(float64(got-want)) <= float64(want)/100
}

func TestLatency_OneDuration(t *testing.T) {
	for _, test := range []struct {
		name           string
		recorded, want time.Duration
	}{
		{"negative", -time.Second, 0}, // no quantile exceeds the maximum
		{"zero", 0, 0},
		{"below the range", 10, 10},
		{"the shortest", time.Microsecond, time.Microsecond},
		{"odd", 1537 * time.Nanosecond, 1537 * time.Nanosecond},
		{"short", 10 * time.Microsecond, 10 * time.Microsecond},
		{"middle", 1234567 * time.Nanosecond, 1234567 * time.Nanosecond},
		{"long", 59 * time.Minute, 59 * time.Minute},
		{"the longest", time.Hour, time.Hour},
		{"above the range", 100 * time.Hour, time.Hour},
		{"the largest that there is", math.MaxInt64, time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := NewLatency()
			l.Record(test.recorded)
			if got := l.Max(); got != max(0, test.recorded) {
				t.Errorf("Max() = %v, want %v", got, test.recorded)
			}
			for _, q := range []float64{0, 0.5, 1} {
				if got := l.Quantile(q); !near(got, test.want) {
					t.Errorf("Quantile(%v) = %v, want %v", q, got, test.want)
				}
			}
			if got := l.Count(); got != 1 {
				t.Errorf("Count() = %d", got)
			}
		})
	}
}

func TestLatency_Empty(t *testing.T) {
	l := NewLatency()
	l.Merge(NewLatency())
	if l.Quantile(0.5) != 0 || l.Quantile(1) != 0 || l.Max() != 0 || l.Count() != 0 {
		t.Errorf("median %v, longest %v, count %d, want 0", l.Quantile(0.5), l.Max(), l.Count())
	}
}

// durations draws durations evenly distributed over the powers of two. A plain range would
// almost never produce a short one.
func durations(t *rapid.T, label string) []time.Duration {
	one := rapid.Custom(func(t *rapid.T) time.Duration {
		top := int64(1) << rapid.IntRange(10, 41).Draw(t, "log2")
		return time.Duration(max(top/2+rapid.Int64Range(0, top/2).Draw(t, "ns"), int64(time.Microsecond)))
	})
	return rapid.SliceOfN(one, 1, 50).Draw(t, label)
}

func TestLatency_QuantilesMatchSortedDurations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := durations(t, "durations")
		split := rapid.IntRange(0, len(ds)).Draw(t, "split")
		l, other := NewLatency(), NewLatency()
		for i, d := range ds {
			if i < split {
				l.Record(d)
			} else {
				other.Record(d)
			}
		}
		l.Merge(other)
		slices.Sort(ds)
		for i, want := range ds {
			q := (float64(i) + 0.9) / float64(len(ds)) // rank i+1, far from the rounding boundaries
			if got := l.Quantile(q); !near(got, want) {
				t.Fatalf("Quantile(%v) = %v, want %v", q, got, want)
			}
		}
		if got, want := l.Max(), ds[len(ds)-1]; got != want {
			t.Fatalf("Max() = %v, want %v", got, want)
		}
		if got := l.Count(); got != int64(len(ds)) {
			t.Fatalf("Count() = %d, want %d", got, len(ds))
		}
	})
}

func TestLatency_MemorySize(t *testing.T) {
	if got := NewLatency().histogram.ByteSize(); got > 40<<10 {
		t.Errorf("a histogram takes %d bytes", got)
	}
}

func TestTable_WriteTo(t *testing.T) {
	for _, test := range []struct {
		name string
		rows [][2]string
		want string
	}{
		{"empty", nil, ""},
		{"one row", [][2]string{{"Name", "value"}}, "Name:  value\n"},
		{
			"aligned in the order of coming",
			[][2]string{{"Long name", "1"}, {"A", "22"}, {"", "no name"}, {"  indented", ""}},
			"Long name:   1\nA:           22\n:            no name\n  indented:  \n",
		},
		{
			"letters of several bytes",
			[][2]string{{"Größe", "1"}, {"Number 2", "2"}},
			"Größe:     1\nNumber 2:  2\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var table Table
			for _, row := range test.rows {
				table.Row(row[0], "%s", row[1])
			}
			var got bytes.Buffer
			n, err := table.WriteTo(&got)
			if err != nil || n != int64(got.Len()) || got.String() != test.want {
				t.Errorf("%d, %v:\n%s\nwant:\n%s", n, err, &got, test.want)
			}
		})
	}
}

func TestTable_WriteToReturnsWriteError(t *testing.T) {
	r, w := io.Pipe()
	cause := errors.New("no paper")
	r.CloseWithError(cause)
	var table Table
	table.Row("Name", "%d", 1)
	if _, err := table.WriteTo(w); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
}

func TestRate(t *testing.T) {
	for _, test := range []struct {
		n       uint64
		elapsed time.Duration
		want    float64
	}{
		{0, time.Second, 0},
		{100, time.Second, 100},
		{100, 4 * time.Second, 25},
		{1, time.Millisecond, 1000},
		{100, 0, 0},
		{100, -time.Second, 0},
	} {
		if got := Rate(test.n, test.elapsed); got != test.want {
			t.Errorf("Rate(%d, %v) = %v, want %v", test.n, test.elapsed, got, test.want)
		}
	}
}

func BenchmarkLatency_Record(b *testing.B) {
	l := NewLatency()
	d := time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		l.Record(d)
		d += time.Microsecond
	}
}
