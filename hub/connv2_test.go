package hub

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// newTestConnV2 returns a version 2 connection to a hub with default limits. It is not started.
func newTestConnV2(t *testing.T) *connV2 {
	t.Helper()
	c := newTestConn(t, Config{})
	v2 := newConnV2(c, newSession(c), "name")
	c.v2.Store(v2)
	return v2
}

// TestConnV2_CloseCause_PrefersGoAway checks when the GOAWAY of the hub counts, and when the
// error does with which the reading has ended.
func TestConnV2_CloseCause_PrefersGoAway(t *testing.T) {
	final := &goAway{reason: CloseDisconnected, err: errors.New("final")}
	resumable := &goAway{reason: CloseExpired, resumable: true, err: errors.New("resumable")}
	for _, test := range []struct {
		away *goAway
		err  error
		want error
	}{
		{nil, io.EOF, io.EOF},
		{final, io.EOF, final},
		{final, errBye, final},
		{resumable, io.EOF, resumable},
		{resumable, errBye, errBye},
	} {
		v2 := newTestConnV2(t)
		v2.goAway.Store(test.away)
		if got := v2.closeCause(test.err); got != test.want {
			t.Errorf("GOAWAY %v, error %v: %v, want %v", test.away, test.err, got, test.want)
		}
	}
}

// TestConnV2_RequestClose_ReplacesResumable lets permissions expire, and then disconnects the
// client twice. Only the first disconnection replaces the request before it. The connection is
// closed even if its read loop never ends.
func TestConnV2_RequestClose_ReplacesResumable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v2 := newTestConnV2(t)
		v2.expire()
		if away := v2.goAway.Load(); away == nil || away.code != wire.GoAwayExpired {
			t.Fatalf("GOAWAY %v after expiry", away)
		}
		first := &goAway{code: wire.GoAwayDisconnected, reason: CloseDisconnected, err: errors.New("first")}
		v2.conn.requestClose(first)
		v2.conn.requestClose(&goAway{code: wire.GoAwayDisconnected, reason: CloseTakenOver, err: errors.New("second")})
		v2.expire()
		if away := v2.goAway.Load(); away != first {
			t.Errorf("GOAWAY %v, want %v", away, first)
		}
		if !v2.interrupted.IsSet() {
			t.Error("the read loop is not interrupted")
		}
		<-time.After(detachTimeout + time.Second)
		synctest.Wait()
		if n := v2.conn.hub.Stats().Disconnected[CloseDisconnected]; n != 1 {
			t.Errorf("%d disconnected, want 1", n)
		}
	})
}

// TestConnV2_Expire_ClosesUnlessDetached has the read loop of a client whose permissions have
// expired detach in time, or not.
func TestConnV2_Expire_ClosesUnlessDetached(t *testing.T) {
	for _, detaches := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			v2 := newTestConnV2(t)
			v2.conn.expire()
			<-time.After(detachTimeout - time.Second)
			if v2.conn.done.IsSet() {
				t.Error("closed too early")
			}
			if detaches {
				v2.attachment.become(stateDetached)
			}
			<-time.After(2 * time.Second)
			synctest.Wait()
			if closed := v2.conn.done.IsSet(); closed == detaches {
				t.Errorf("detached %v, closed %v", detaches, closed)
			}
		})
	}
}
