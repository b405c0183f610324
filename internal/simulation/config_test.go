package simulation

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
)

// validConfig returns the defaults of the command.
func validConfig() Config {
	return Config{Addr: "localhost:9999", Size: 10240, Clients: 100, Messages: 100, Interval: time.Millisecond}
}

func TestConfig_ValidateAccepts(t *testing.T) {
	tests := map[string]func(*Config){
		"the defaults":  func(*Config) {},
		"all zero":      func(c *Config) { c.Size, c.Clients, c.Messages, c.Interval = 0, 0, 0, 0 },
		"all maximum":   func(c *Config) { c.Size, c.Clients, c.Messages = 1024000, 255, MaxMessages },
		"an empty host": func(c *Config) { c.Addr = ":9999" },
		"IPv6":          func(c *Config) { c.Addr = "[::1]:9999" },
		"addresses":     func(c *Config) { c.Addr = "localhost:9999,[::1]:9999" },
		"header":        func(c *Config) { c.Verify = VerifyHeader },
		"a timeout":     func(c *Config) { c.Timeout = time.Hour },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			c := validConfig()
			change(&c)
			if err := c.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestConfig_ValidateRejects(t *testing.T) {
	tests := []struct {
		change func(*Config)
		names  []string // the flag with its value, and the allowed range
	}{
		{func(c *Config) { c.Size = -1 }, []string{"-size=-1", "0 to 1,024,000 bytes"}},
		{func(c *Config) { c.Size = 1024001 }, []string{"-size=1024001", "0 to 1,024,000 bytes"}},
		{func(c *Config) { c.Clients = -1 }, []string{"-ncli=-1", "0 to 255 clients"}},
		{func(c *Config) { c.Clients = 256 }, []string{"-ncli=256", "0 to 255 clients"}},
		{func(c *Config) { c.Messages = -1 }, []string{"-nmex=-1", "0 to " + humanize.Comma(MaxMessages) + " messages"}},
		{func(c *Config) { c.Messages = MaxMessages; c.Messages++ }, []string{"-nmex=4294967296", "4,294,967,295"}},
		{func(c *Config) { c.Interval = -1 }, []string{"-i=-1ns", "0 or more"}},
		{func(c *Config) { c.Timeout = -time.Second }, []string{"-timeout=-1s", "0 or more"}},
		{func(c *Config) { c.Verify = 3 }, []string{"-verify=3", "full, header and off"}},
		{func(c *Config) { c.Addr = "localhost" }, []string{"-addr", "localhost", "host:port"}},
		{func(c *Config) { c.Addr = "localhost:0" }, []string{"-port=0", "1 to 65535"}},
		{func(c *Config) { c.Addr = "localhost:1,b:0,c" }, []string{"-port=0", "-addr", `"c"`}},
		{func(c *Config) { c.Addr = "localhost:65536" }, []string{"-port=65536", "1 to 65535"}},
		{func(c *Config) { c.Size, c.Clients = -1, 256 }, []string{"-size=-1", "-ncli=256"}},
	}
	for _, test := range tests {
		if math.MaxInt == math.MaxInt32 && strings.Contains(test.names[len(test.names)-1], "4,294,967,295") {
			continue // an int has 32 bits here, and the maximum is lower
		}
		t.Run(test.names[0], func(t *testing.T) {
			c := validConfig()
			test.change(&c)
			err := c.Validate()
			if err == nil {
				t.Fatal("accepted")
			}
			for _, name := range test.names {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%q does not say %q", err, name)
				}
			}
			if _, err := Run(t.Context(), c); err == nil {
				t.Error("Run accepted it")
			}
		})
	}
}

// TestConfig_ValidateRequiresVersion2 checks that options of version 2 are rejected with
// version 1.
func TestConfig_ValidateRequiresVersion2(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"-report=received": func(c *Config) { c.ReportLevel = LevelReceived },
		"-reconnect=1":     func(c *Config) { c.Reconnects = 1 },
		"-reconnect=10001": func(c *Config) { c.Protocol, c.Reconnects = 2, MaxReconnects+1 },
		"-protocol=3":      func(c *Config) { c.Protocol = 3 },
		"-report=9":        func(c *Config) { c.Protocol, c.ReportLevel = 2, 9 },
	} {
		c := validConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

// TestConfig_AddrsOf checks that the clients spread evenly over all addresses, and those of one
// address over the others.
func TestConfig_AddrsOf(t *testing.T) {
	if got := (Config{Addr: "a:1"}).addrsOf(7); !slices.Equal(got, []string{"a:1"}) {
		t.Errorf("one address: %q", got)
	}
	c := Config{Addr: "a:1,b:2,c:3,d:4"}
	counts := make(map[string]int)
	for i := range 4 * 3 * 5 {
		addrs := c.addrsOf(i)
		if addrs[0] != c.addrs()[i%4] {
			t.Errorf("client %d begins with %s", i, addrs[0])
		}
		counts[addrs[0]]++
		counts[addrs[0]+" "+addrs[1]]++
		slices.Sort(addrs)
		if !slices.Equal(addrs, c.addrs()) {
			t.Errorf("client %d has %q", i, addrs)
		}
	}
	for addrs, n := range counts {
		if want := map[bool]int{false: 15, true: 5}[strings.Contains(addrs, " ")]; n != want {
			t.Errorf("%d clients begin with %s, want %d", n, addrs, want)
		}
	}
}
