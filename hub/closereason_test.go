package hub_test

import (
	"testing"

	"github.com/sechlol/go-message-hub/hub"
)

func TestCloseReasons_EachHasItsText(t *testing.T) { checkTexts(t, hub.CloseReasons(), "reason 200") }
