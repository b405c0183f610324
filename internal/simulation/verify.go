package simulation

import "fmt"

// Verify says how closely a receiver looks at what arrives. It is a flag.Value
// and marshals as its name.
type Verify uint8

// The ways to verify.
const (
	VerifyFull   Verify = iota // every byte: loss, duplicates, order, size and content
	VerifyHeader               // size and the first 16 bytes only: loss, duplicates, order
	VerifyOff                  // only counts deliveries; no latency either
)

var verifyNames = []string{"full", "header", "off"}

// ParseVerify reads the name of a way to verify.
func ParseVerify(name string) (Verify, error) {
	for i, known := range verifyNames {
		if name == known {
			return Verify(i), nil
		}
	}
	return 0, fmt.Errorf("-verify=%s: allowed are full, header and off", name)
}

// String returns the name that ParseVerify reads.
func (v Verify) String() string {
	if v.check() != nil {
		return fmt.Sprintf("Verify(%d)", uint8(v))
	}
	return verifyNames[v]
}

// Set makes a *Verify a flag.Value.
func (v *Verify) Set(name string) (err error) {
	*v, err = ParseVerify(name)
	return err
}

// MarshalText writes the name.
func (v Verify) MarshalText() ([]byte, error) { return []byte(v.String()), v.check() }

// UnmarshalText reads a name, like Set.
func (v *Verify) UnmarshalText(text []byte) error { return v.Set(string(text)) }

func (v Verify) check() error {
	if int(v) >= len(verifyNames) {
		return fmt.Errorf("-verify=%d: allowed are full, header and off", uint8(v))
	}
	return nil
}
