package hub

import "testing"

// TestConn_Renew_HoldsNoMemory renews a token, and checks that the connection keeps none of the
// channels that only a longer wait needs.
func TestConn_Renew_HoldsNoMemory(t *testing.T) {
	v2 := newTestConnV2(t)
	c := v2.conn
	c.hub.auth.callback = func(AuthRequest) (*Permissions, error) { return new(Permissions), nil }
	if permissions, err := c.renew("token"); permissions == nil || err != nil {
		t.Errorf("%+v, %v", permissions, err)
	}
	if c.done.state.Load() != nil || v2.interrupted.state.Load() != nil {
		t.Error("the connection has channels")
	}
	if c.is(flagRenewing) {
		t.Error("a renewal is under way")
	}
}
