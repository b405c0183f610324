package simulation

import "fmt"

// VerifyMode is how thoroughly a receiver checks deliveries. It is a flag.Value and marshals
// as its name.
type VerifyMode uint8

// The verify modes.
const (
	VerifyFull   VerifyMode = iota // every byte: loss, duplicates, order, size and content
	VerifyHeader                   // size and the first 16 bytes only: loss, duplicates, order
	VerifyOff                      // counts deliveries only; no latency either
)

var verifyNames = []string{"full", "header", "off"}

// ParseVerifyMode parses the name of a verify mode.
func ParseVerifyMode(name string) (VerifyMode, error) {
	for i, known := range verifyNames {
		if name == known {
			return VerifyMode(i), nil
		}
	}
	return 0, fmt.Errorf("-verify=%s: allowed are full, header and off", name)
}

// String returns the name that ParseVerifyMode accepts.
func (v VerifyMode) String() string {
	if v.check() != nil {
		return fmt.Sprintf("VerifyMode(%d)", uint8(v))
	}
	return verifyNames[v]
}

// Set parses a name, which makes *VerifyMode a flag.Value.
func (v *VerifyMode) Set(name string) (err error) {
	*v, err = ParseVerifyMode(name)
	return err
}

// MarshalText returns the name of the mode.
func (v VerifyMode) MarshalText() ([]byte, error) { return []byte(v.String()), v.check() }

// UnmarshalText parses the name of a mode, like Set.
func (v *VerifyMode) UnmarshalText(text []byte) error { return v.Set(string(text)) }

func (v VerifyMode) check() error {
	if int(v) >= len(verifyNames) {
		return fmt.Errorf("-verify=%d: allowed are full, header and off", uint8(v))
	}
	return nil
}
