package cluster

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// membershipTest is a hub that gets heartbeats of other hubs.
type membershipTest struct {
	*testing.T
	*Cluster
	carrier *fakeCarrier
	log     *bytes.Buffer
}

// inMembershipTest runs a test in virtual time.
func inMembershipTest(t *testing.T, test func(mt *membershipTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		mt := &membershipTest{T: t, carrier: new(fakeCarrier), log: new(bytes.Buffer)}
		config := testConfig(mt.carrier)
		config.Logger = slog.New(slog.NewTextHandler(mt.log, nil))
		mt.Cluster = startTestCluster(t, config)
		synctest.Wait()
		mt.carrier.take(frameHeartbeat)
		test(mt)
	})
}

// beat has a heartbeat arrive.
func (mt *membershipTest) beat(kind frameKind, from Node, h *heartbeat) {
	mt.carrier.handle(encodeHeartbeat(kind, from, testKey, h))
	synctest.Wait()
}

// wantStates checks the other hubs, as "node state".
func (mt *membershipTest) wantStates(want ...string) {
	mt.Helper()
	var got []string
	for _, info := range mt.Hubs() {
		if !info.Self {
			got = append(got, fmt.Sprint(info.Node, " ", info.State))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		mt.Errorf("the hubs are %v, want %v", got, want)
	}
}

// wantLogged checks how often the log has a text since the last call.
func (mt *membershipTest) wantLogged(n int, text string) {
	mt.Helper()
	if got := strings.Count(mt.log.String(), text); got != n {
		mt.Errorf("%q is logged %d times, want %d:\n%s", text, got, n, mt.log)
	}
	mt.log.Reset()
}

func TestMembership_HeartbeatAddsAHub(t *testing.T) {
	inMembershipTest(t, func(mt *membershipTest) {
		mt.beat(frameHeartbeat, 2, testHeartbeat("a"))
		mt.wantStates("2 connecting")
		if n := len(mt.carrier.take(frameHeartbeat)); n != 1 {
			t.Errorf("%d heartbeats answer it, want 1", n)
		}
		mt.beat(frameHeartbeat, 2, testHeartbeat("a"))
		if n := len(mt.carrier.take(frameHeartbeat)); n != 0 {
			t.Errorf("%d heartbeats answer the second one", n)
		}
		mt.beat(frameHeartbeat, testNode, &heartbeat{Instance: mt.instance})
		mt.wantStates("2 connecting")
		mt.wantLogged(0, "rejected")
	})
}

// TestMembership_Versions accepts hubs that can speak a version of this hub, and others not:
// version N speaks with N-1.
func TestMembership_Versions(t *testing.T) {
	for _, test := range []struct {
		lowest, highest int
		accepted        bool
	}{
		{minVersion, maxVersion, true},
		{minVersion - 1, maxVersion, true},
		{minVersion, maxVersion + 1, true},
		{maxVersion, maxVersion + 1, true},
		{maxVersion + 1, maxVersion + 2, false},
		{minVersion - 2, minVersion - 1, false},
	} {
		inMembershipTest(t, func(mt *membershipTest) {
			h := testHeartbeat("a")
			h.MinVersion, h.MaxVersion = test.lowest, test.highest
			mt.beat(frameHeartbeat, 2, h)
			if test.accepted {
				mt.wantStates("2 connecting")
			} else {
				mt.wantStates()
				mt.wantLogged(1, "it speaks versions")
			}
		})
	}
}

func TestMembership_RejectedHubs(t *testing.T) {
	inMembershipTest(t, func(mt *membershipTest) {
		other := encodeHeartbeat(frameHeartbeat, 2, []byte("other key"), testHeartbeat("a"))
		nonsense := append(appendFramePrefix(nil, frameHeartbeat, 3), "{"...)
		nonsense = append(nonsense, code(testKey, nonsense)...)
		for range 3 {
			mt.carrier.handle(other)
			mt.carrier.handle(nonsense)
			mt.beat(frameHeartbeat, testNode, testHeartbeat("not this one"))
			mt.carrier.handle(appendFramePrefix(nil, frameHeartbeat, 4))
		}
		mt.wantStates()
		mt.wantLogged(4, "hub rejected") // each once
		for node := range Node(1000) {
			mt.carrier.handle(encodeHeartbeat(frameHeartbeat, 2+node, []byte("other key"), testHeartbeat("a")))
		}
		mt.wantLogged(maxRejections-4, "hub rejected")
		pass(rejectionInterval)
		mt.carrier.handle(other)
		mt.wantLogged(1, "another key")
	})
}

// TestMembership_Leave has a hub leave. A heartbeat of it that comes late does not bring it back.
func TestMembership_Leave(t *testing.T) {
	inMembershipTest(t, func(mt *membershipTest) {
		mt.beat(frameHeartbeat, 2, testHeartbeat("a"))
		mt.beat(frameLeave, 2, testHeartbeat("b")) // not this one
		mt.wantStates("2 connecting")
		mt.beat(frameLeave, 2, testHeartbeat("a"))
		mt.wantStates()
		mt.beat(frameHeartbeat, 2, testHeartbeat("a"))
		mt.beat(frameLeave, 3, testHeartbeat("c"))
		mt.beat(frameHeartbeat, 3, testHeartbeat("c"))
		mt.wantStates()
		mt.carrier.handle(appendFramePrefix(nil, frameLink, 2))
		pass(maxLostTime + time.Minute)
		if len(mt.departed) != 0 {
			t.Errorf("%v are remembered", mt.departed)
		}
	})
}

// TestCluster_Close_EndsLinks leaves a cluster. A frame of a link that begins anew could overtake
// the leave, and the other hubs would warn of a broken link.
func TestCluster_Close_EndsLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		carrier := new(fakeCarrier)
		c := New(testConfig(carrier))
		for node := range Node(20) {
			carrier.handle(encodeHeartbeat(frameHeartbeat, 2+node, testKey, testHeartbeat("a")))
		}
		synctest.Wait()
		if n := len(carrier.take(frameLink)); n != 20 {
			t.Errorf("%d frames of links are sent", n)
		}
		stop := make(chan struct{})
		close(stop)
		c.Close(stop)
		if n := len(carrier.take(frameLink)); n != 0 {
			t.Errorf("%d frames of links are sent after the leave", n)
		}
	})
}

// TestMembership_SameNumber has two hubs with one number, which happens if the store has lost its
// counter. The second one is rejected as long as the first one is there.
func TestMembership_SameNumber(t *testing.T) {
	inMembershipTest(t, func(mt *membershipTest) {
		first := testHeartbeat("a")
		mt.beat(frameHeartbeat, 2, first)
		second := testHeartbeat("b")
		second.Name = "second"
		mt.beat(frameHeartbeat, 2, second)
		mt.wantLogged(1, "two hubs have its number")
		if name := mt.Hubs()[1].Name; name != "two" {
			t.Errorf("the hub is %q now", name)
		}
		pass(maxSilence + heartbeatInterval)
		mt.wantStates("2 lost")
		mt.beat(frameHeartbeat, 2, second)
		mt.wantStates("2 connecting")
		if name := mt.Hubs()[1].Name; name != "second" {
			t.Errorf("the hub is %q", name)
		}
	})
}

func TestMembership_TooManyHubs(t *testing.T) {
	inMembershipTest(t, func(mt *membershipTest) {
		for node := range Node(maxPeers + 1) {
			mt.carrier.handle(encodeHeartbeat(frameHeartbeat, 2+node, testKey, testHeartbeat(fmt.Sprint(node))))
		}
		if n := len(mt.Hubs()); n != maxPeers+1 {
			t.Errorf("%d hubs, want %d others", n, maxPeers)
		}
		mt.wantLogged(1, "other hubs already")
	})
}

func TestMembership_ClocksDiffer(t *testing.T) {
	inMembershipTest(t, func(mt *membershipTest) {
		for i, diff := range []time.Duration{0, maxClockDiff, -maxClockDiff, maxClockDiff + time.Millisecond, -time.Hour} {
			h := testHeartbeat(fmt.Sprint(i))
			h.Now = time.Now().Add(diff).UnixMicro()
			mt.beat(frameHeartbeat, Node(2+i), h)
		}
		mt.wantLogged(2, "clocks of hubs differ")
		if clock := mt.Hubs()[5].Clock; clock != -time.Hour {
			t.Errorf("the clock differs by %v", clock)
		}
	})
}

// TestMembership_LostForLong forgets a hub that is lost for long, unless all are.
func TestMembership_LostForLong(t *testing.T) {
	inMembershipTest(t, func(mt *membershipTest) {
		mt.beat(frameHeartbeat, 2, testHeartbeat("a"))
		pass(maxLostTime + time.Minute)
		mt.wantStates("2 lost")
		for range 3 {
			mt.beat(frameHeartbeat, 3, testHeartbeat("b"))
			pass(time.Second)
		}
		mt.wantStates("3 connecting")
	})
}

// FuzzCluster_Frame has any bytes arrive as a frame, also with the code of the cluster behind them.
// The hub goes on.
func FuzzCluster_Frame(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add(appendFramePrefix(nil, frameLink, 2), false)
	f.Add(append(appendFramePrefix(nil, frameHeartbeat, 2), `{"min":1,"max":1,"name":"two","instance":"i","window":1}`...), true)
	f.Add(append(appendFramePrefix(nil, frameLeave, 2), `{"min":1,"max":1}`...), true)
	f.Add(encodeHeartbeat(frameHeartbeat, 3, testKey, testHeartbeat("x")), false)
	f.Fuzz(func(t *testing.T, frame []byte, authentic bool) {
		synctest.Test(t, func(t *testing.T) {
			carrier := new(fakeCarrier)
			config := testConfig(carrier)
			config.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
			c := startTestCluster(t, config)
			carrier.handle(encodeHeartbeat(frameHeartbeat, 2, testKey, testHeartbeat("a")))
			if authentic {
				frame = append(bytes.Clone(frame), code(testKey, frame)...)
			}
			carrier.handle(frame)
			synctest.Wait()
			carrier.handle(encodeHeartbeat(frameHeartbeat, 4, testKey, testHeartbeat("b")))
			if len(c.Hubs()) < 2 {
				t.Error("the hub knows no other hub any more")
			}
		})
	})
}
