package hub_test

import (
	"testing"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

func TestHello_Invalid_GetsGoAway(t *testing.T) {
	for _, test := range []struct {
		name string
		say  []byte
		code wire.GoAwayCode
	}{
		{"version 3", wire.AppendHello(nil, &wire.Hello{Version: 3}), wire.GoAwayVersion},
		{"no version", wire.AppendHello(nil, &wire.Hello{}), wire.GoAwayVersion},
		{"no JSON", []byte{0, 0, 0, 2, byte(wire.TypeHello), '{'}, wire.GoAwayProtocol},
		{"too long", append([]byte{0, 0, 0x50, 1, byte(wire.TypeHello)}, make([]byte, 0x5000)...), wire.GoAwayProtocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, tr testTransport) {
				c := &clientV2{clientV1: tr.start(t, hub.Config{}).connect(t)}
				c.send(test.say)
				c.expectGoAway(test.code)
			})
		})
	}
}
