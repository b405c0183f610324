package simulation

import (
	"math"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

func TestConfig_Plan(t *testing.T) {
	tests := []struct {
		name                    string
		size, clients, messages int
		want                    Plan
		text                    string
	}{
		{
			"no clients", 10, 0, 5, Plan{Size: 10}, "0 clients, nothing to send",
		}, {
			"one", 10, 1, 5, Plan{Clients: 1, Size: 10}, "1 client, nothing to send",
		}, {
			"no messages", 10, 2, 0, Plan{Clients: 2, Size: 10}, "2 clients, nothing to send",
		}, {
			"two", 10, 2, 5, Plan{2, 10, 10, 10, 100, 10*(4+1+1+8+10) + 10*(4+1+10)},
			"2 clients send 5 × 10 B each to 1 other: 10 deliveries, 100 B of bodies, 390 B on the wire",
		}, {
			"the defaults", 10240, 100, 100, Plan{100, 10240, 10_000, 990_000, 10_137_600_000, 10_252_930_000},
			"100 clients send 100 × 10 kB each to 99 others: 990,000 deliveries, 10.1 GB of bodies, 10.3 GB on the wire",
		}, {
			"heavy", 1024000, 255, 20, Plan{255, 1024000, 5100, 1_295_400, 1_326_489_600_000, 1_331_728_870_800},
			"255 clients send 20 × 1.0 MB each to 254 others: 1,295,400 deliveries, 1.33 TB of bodies, 1.33 TB on the wire",
		}, {
			"beyond counting", 1024000, 255, MaxMessages,
			Plan{255, 1024000, 1_095_216_660_225, 278_185_031_697_150, math.MaxUint64, math.MaxUint64},
			"255 clients send 4,294,967,295 × 1.0 MB each to 254 others: 278,185,031,697,150 deliveries, 18.4 EB of bodies, 18.4 EB on the wire",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := Config{Size: test.size, Clients: test.clients, Messages: test.messages}
			got := c.Plan()
			if got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			if got.String() != test.text {
				t.Errorf("got  %s\nwant %s", got, test.text)
			}
		})
	}
}

func TestConfig_PlanOfVersion2(t *testing.T) {
	c := Config{Clients: 3, Messages: 10, Size: 100, Protocol: 2, ReportLevel: LevelWritten}
	want := uint64(30*wire.SendLen(2, 100) + 60*wire.DeliverLen(100) + 30*wire.ReportLen(2))
	if got := c.Plan().WireBytes; got != want {
		t.Errorf("%d bytes on the wire, want %d", got, want)
	}
}
