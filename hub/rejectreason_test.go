package hub_test

import (
	"testing"

	"github.com/sechlol/go-message-hub/hub"
)

func TestRejectReasons_EachHasItsText(t *testing.T) { checkTexts(t, hub.RejectReasons(), "?") }
