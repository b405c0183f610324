package hub

import (
	"errors"
	"testing"
	"time"
	"unsafe"

	"github.com/sechlol/go-message-hub/internal/admission"
)

// afterSleep returns a time as time.Now returns it after the wall clock has jumped by whole
// seconds and the monotonic clock has not. The only way to make such a time is to know its
// representation.
func afterSleep(jump time.Duration) time.Time {
	t := time.Now()
	const secondsShift = 30
	(*struct{ wall uint64 })(unsafe.Pointer(&t)).wall += uint64(jump/time.Second) << secondsShift
	return t
}

// newAuthorization returns an authorization with these permissions.
func newAuthorization(permissions *Permissions) *authorization {
	a := new(authorization)
	a.permissions.Store(permissions)
	return a
}

// TestAuthorization_ExpiryAfterSleep_UsesWallClock checks that expiry follows the wall clock,
// whether Expires has a monotonic clock reading or not.
func TestAuthorization_ExpiryAfterSleep_UsesWallClock(t *testing.T) {
	until := time.Now().Add(8 * time.Hour)
	for _, jump := range []time.Duration{0, time.Hour, 9 * time.Hour, -time.Hour} {
		for _, permissions := range []*Permissions{{Expires: until}, {Expires: until.Round(0)}} {
			want := 8*time.Hour - jump
			got, expires := permissions.timeToExpiry(afterSleep(jump))
			if !expires || got > want || got < want-time.Minute {
				t.Errorf("after a jump by %v: %v left (%v), want %v", jump, got, expires, want)
			}
		}
	}
}

// TestAuthorization_ZeroValue_GrantsEverything checks what a client can do without permissions.
func TestAuthorization_ZeroValue_GrantsEverything(t *testing.T) {
	rates := admission.Rates{Messages: 10, Bytes: 1000}
	var a authorization
	if n := a.expiresMillis(time.Now()); n != 0 {
		t.Errorf("expires in %d ms", n)
	}
	if !a.canList() || !a.canWatch() || a.sendRule() != nil || !a.canSend(1) {
		t.Error("something is forbidden")
	}
	if a.subject() != "" || a.grantedID() != 0 {
		t.Error("something is granted")
	}
	if n := a.lowerMaxBody(100); n != 100 {
		t.Errorf("a body can have %d bytes", n)
	}
	if r := a.lowerRates(rates); r != rates {
		t.Errorf("rates %+v", r)
	}
}

// TestAuthorization_Permissions_OnlyLower checks permissions that forbid all that they can, and
// that name more than the hub allows.
func TestAuthorization_Permissions_OnlyLower(t *testing.T) {
	rates := admission.Rates{Messages: 10, Bytes: 1000}
	a := newAuthorization(&Permissions{
		Subject: "s", ID: 7, Expires: time.Now(), NoList: true, NoWatch: true, CanSend: func(id uint64) bool { return id == 3 },
		MaxBody: 1000, MessageRate: 100, ByteRate: 10,
	})
	if a.canList() || a.canWatch() || a.sendRule() == nil || a.canSend(1) || !a.canSend(3) {
		t.Error("the permissions do not apply")
	}
	if a.expiresMillis(time.Now()) != 1 || a.subject() != "s" || a.grantedID() != 7 {
		t.Error("something is not granted")
	}
	if n := a.lowerMaxBody(100); n != 100 {
		t.Errorf("a body can have %d bytes", n)
	}
	if n := a.lowerMaxBody(2000); n != 1000 {
		t.Errorf("a body can have %d bytes", n)
	}
	if r := a.lowerRates(rates); r != (admission.Rates{Messages: 10, Bytes: 10}) {
		t.Errorf("rates %+v", r)
	}
}

// TestAuthorization_CanHoldID checks which ids a client can resume.
func TestAuthorization_CanHoldID(t *testing.T) {
	unrestricted, none, seven := newAuthorization(nil), newAuthorization(&Permissions{}), newAuthorization(&Permissions{ID: 7})
	for _, test := range []struct {
		a         *authorization
		id        uint64
		grantsIDs bool
		want      bool
	}{
		{unrestricted, 7, false, true},
		{none, 7, false, true},
		{none, 7, true, false},
		{none, MaxGrantedID, true, false},
		{none, MaxGrantedID + 1, true, true},
		{seven, 7, true, true},
		{seven, 8, true, false},
		{seven, MaxGrantedID + 1, true, false},
	} {
		if got := test.a.canHoldID(test.id, test.grantsIDs); got != test.want {
			t.Errorf("granted %d, id %d, %v: %v", test.a.grantedID(), test.id, test.grantsIDs, got)
		}
	}
}

// TestAuthenticator_Check_RejectsMistakes has the embedder return no permissions, and an id that
// cannot be granted, and disables version 1.
func TestAuthenticator_Check_RejectsMistakes(t *testing.T) {
	errNo := errors.New("no")
	for _, test := range []struct {
		name        string
		permissions *Permissions
		err         error
		version     int
		accepted    bool
	}{
		{"accepted", &Permissions{ID: MaxGrantedID}, nil, 2, true},
		{"rejected", nil, errNo, 2, false},
		{"rejected with permissions", &Permissions{}, errNo, 2, false},
		{"no permissions", nil, nil, 2, false},
		{"id out of range", &Permissions{ID: MaxGrantedID + 1}, nil, 2, false},
		{"version 1 disabled", &Permissions{}, nil, 1, false},
	} {
		a := authenticator{
			callback:  func(AuthRequest) (*Permissions, error) { return test.permissions, test.err },
			disableV1: true,
		}
		permissions, err := a.check(AuthRequest{Version: test.version})
		if (err == nil) != test.accepted || (permissions != nil) != test.accepted {
			t.Errorf("%s: %+v, %v", test.name, permissions, err)
		}
		if test.err != nil && !errors.Is(err, test.err) {
			t.Errorf("%s: %v, want %v", test.name, err, test.err)
		}
	}
	open := authenticator{disableV1: true}
	if permissions, err := open.check(AuthRequest{Version: 2}); permissions == nil || err != nil {
		t.Errorf("%+v, %v without Authenticate", permissions, err)
	}
}
