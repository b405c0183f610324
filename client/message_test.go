package client

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

// TestMessage_FitsRegisters checks that a Message is passed in registers. Of the nine integer
// registers, the receiver of a method can take one.
func TestMessage_FitsRegisters(t *testing.T) {
	if got, max := unsafe.Sizeof(Message{}), 8*unsafe.Sizeof(uintptr(0)); got > max {
		t.Errorf("a message takes %d bytes, at most %d go in registers", got, max)
	}
}

// TestMessage_BodyValidUntilRelease keeps some messages while very many others arrive and are
// released.
func TestMessage_BodyValidUntilRelease(t *testing.T) {
	const all = 20_000
	c, h := newTestClientV1TCP(t, nil)
	go func() { // ends when all frames are read
		for i := range all {
			h.send(deliveryFrame(strings.Repeat(fmt.Sprintf("%06d", i), i%500)))
		}
	}()
	kept := map[int]Message{}
	for i := range all {
		m, err := c.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			kept[i] = m
		} else {
			m.Release()
		}
	}
	for i, m := range kept {
		if string(m.Body) != strings.Repeat(fmt.Sprintf("%06d", i), i%500) {
			t.Fatalf("message %d has changed", i)
		}
		m.Body = append(m.Body, "grows into memory of its own"...)
		m.Release()
	}
	Message{}.Release() // of the zero Message
}
