package settings_test

import (
	"testing"

	"github.com/sechlol/go-message-hub/internal/command/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, nil) }
