package simulation

import (
	"fmt"

	"github.com/sechlol/go-message-hub/wire"
)

// Level says how far each message must have come before the hub reports it to its
// sender. It marshals as its name.
type Level uint8

// The levels. Each but the first is the wire's level of the same number.
const (
	LevelNone Level = iota // no reports
	LevelWritten
	LevelReceived
	LevelProcessed
)

var levelNames = []string{"none", "written", "received", "processed"}

// ParseLevel reads the name of a level.
func ParseLevel(name string) (Level, error) {
	for i, known := range levelNames {
		if name == known {
			return Level(i), nil
		}
	}
	return 0, fmt.Errorf("-report=%s: allowed are none, written, received and processed", name)
}

// String returns the name that ParseLevel reads.
func (l Level) String() string {
	if l.check() != nil {
		return fmt.Sprintf("Level(%d)", uint8(l))
	}
	return levelNames[l]
}

// MarshalText writes the name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), l.check() }

// UnmarshalText reads a name.
func (l *Level) UnmarshalText(text []byte) (err error) {
	*l, err = ParseLevel(string(text))
	return err
}

func (l Level) check() error {
	if int(l) >= len(levelNames) {
		return fmt.Errorf("-report=%d: allowed are none, written, received and processed", uint8(l))
	}
	return nil
}

func (l Level) wire() wire.Level { return wire.Level(l) }
