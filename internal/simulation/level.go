package simulation

import (
	"fmt"

	"github.com/sechlol/go-message-hub/wire"
)

// Level is the delivery level at which the hub reports each message to its sender. It marshals
// as its name.
type Level uint8

// The report levels. Each level except LevelNone equals the wire.Level of the same number.
const (
	LevelNone Level = iota // no reports
	LevelWritten
	LevelReceived
	LevelProcessed
)

var levelNames = []string{"none", "written", "received", "processed"}

// ParseLevel parses the name of a level.
func ParseLevel(name string) (Level, error) {
	for i, known := range levelNames {
		if name == known {
			return Level(i), nil
		}
	}
	return 0, fmt.Errorf("-report=%s: allowed are none, written, received and processed", name)
}

// String returns the name that ParseLevel accepts.
func (l Level) String() string {
	if l.check() != nil {
		return fmt.Sprintf("Level(%d)", uint8(l))
	}
	return levelNames[l]
}

// MarshalText returns the name of the level.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), l.check() }

// UnmarshalText parses the name of a level.
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
