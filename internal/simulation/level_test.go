package simulation

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestLevel_MarshalsAsName(t *testing.T) {
	text, err := json.Marshal(LevelProcessed)
	if err != nil || string(text) != `"processed"` {
		t.Errorf("got %s, %v", text, err)
	}
	var l Level
	if err := json.Unmarshal([]byte(`"written"`), &l); err != nil || l != LevelWritten {
		t.Errorf("got %v, %v", l, err)
	}
	if err := json.Unmarshal([]byte(`"read"`), &l); err == nil || !strings.Contains(err.Error(), "none, written, received and processed") {
		t.Errorf("got %v", err)
	}
}
