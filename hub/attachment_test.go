package hub

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
)

var attachStates = []attachState{stateAttached, stateTakeoverRequested, stateDetached, stateClaimed, stateMoved, stateClosed, stateExpired}

// TestAttachment_Become_RejectsImpossibleTransitions tries every pair of states.
func TestAttachment_Become_RejectsImpossibleTransitions(t *testing.T) {
	possible := map[attachState][]attachState{
		stateAttached:          {stateTakeoverRequested, stateDetached, stateClosed},
		stateTakeoverRequested: {stateDetached, stateClosed},
		stateDetached:          {stateClaimed, stateExpired},
		stateClaimed:           {stateDetached, stateMoved},
	}
	for _, from := range attachStates {
		for _, to := range attachStates {
			a := attachment{state: from}
			want := slices.Contains(possible[from], to)
			if got := a.become(to); got != want {
				t.Errorf("from %d to %d: %v, want %v", from, to, got, want)
			}
			after := from
			if want {
				after = to
			}
			if got := a.load(); got != after {
				t.Errorf("from %d to %d: the state is %d afterwards, want %d", from, to, got, after)
			}
		}
	}
}

// TestAttachment_HasLeft_OnceDetached checks which states have no open connection.
func TestAttachment_HasLeft_OnceDetached(t *testing.T) {
	left := []attachState{stateDetached, stateClaimed, stateMoved, stateExpired}
	for _, state := range attachStates {
		if got, want := state.hasLeft(), slices.Contains(left, state); got != want {
			t.Errorf("state %d: %v, want %v", state, got, want)
		}
	}
}

// TestAttachment_Watch_WakesAtNextTransition watches a state that changes, and one that rejects
// a transition.
func TestAttachment_Watch_WakesAtNextTransition(t *testing.T) {
	var a attachment
	state, changed := a.watch()
	if state != stateAttached {
		t.Fatalf("the state is %d at first", state)
	}
	a.become(stateMoved) // impossible
	select {
	case <-changed:
		t.Fatal("woken by a transition that is impossible")
	default:
	}
	a.become(stateTakeoverRequested)
	<-changed
	if state, next := a.watch(); state != stateTakeoverRequested || next == changed {
		t.Errorf("the state is %d, or its channel is the one of the state before", state)
	}
}

// TestAttachment_OneClaim_OfMany lets many connections claim a session at once.
func TestAttachment_OneClaim_OfMany(t *testing.T) {
	a := attachment{state: stateDetached}
	claims := make(chan bool)
	const claimants = 8
	for range claimants {
		go func() { claims <- a.become(stateClaimed) }() // ends when its result is received
	}
	n := 0
	for range claimants {
		if <-claims {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d connections have claimed the session, want 1", n)
	}
}

// TestAttachment_CloseUnlessMoved_WaitsForClaim ends the resume window in every state, and
// while another connection is resuming the session, which then succeeds or fails.
func TestAttachment_CloseUnlessMoved_WaitsForClaim(t *testing.T) {
	for _, state := range attachStates {
		if state == stateClaimed {
			continue
		}
		a := attachment{state: state}
		if got, want := a.closeUnlessMoved(), state == stateMoved; got != want {
			t.Errorf("in state %d: moved %v, want %v", state, got, want)
		}
	}
	for _, outcome := range []attachState{stateMoved, stateDetached} {
		t.Run(fmt.Sprintf("a claim that ends in state %d", outcome), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := attachment{state: stateClaimed}
				var moved, over bool
				go func() { // ends with the claim
					moved = a.closeUnlessMoved()
					over = true
				}()
				synctest.Wait()
				if over {
					t.Fatal("the window is closed while the session is claimed")
				}
				a.become(outcome)
				synctest.Wait()
				if !over || moved != (outcome == stateMoved) {
					t.Errorf("over: %v, moved: %v", over, moved)
				}
				if state := a.load(); !moved && state != stateExpired {
					t.Errorf("the state is %d, want expired", state)
				}
			})
		})
	}
}
