package main

import (
	"strings"
	"testing"
)

func TestServer_MeasuresUsage(t *testing.T) {
	s, err := startHub(t.Context(), newTestPrograms(t, "hub"), limitsRaised)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := greetHub(dialTest(t, s.addr)); err != nil {
			t.Fatal(err)
		}
	}
	now, err := s.memoryMiB("VmRSS")
	if err != nil || now <= 0 {
		t.Errorf("%v MiB, %v", now, err)
	}
	if _, err := s.memoryMiB("VmNonsense"); err == nil {
		t.Error("no error for a field that does not exist")
	}
	cpu, err := s.cpuSeconds()
	if err != nil || cpu < 0 || cpu > 10 {
		t.Errorf("%v s, %v", cpu, err)
	}
	used, err := s.stop()
	if err != nil || used.PeakMiB < now || used.CPU < cpu {
		t.Errorf("%+v, %v, want at least %v MiB and %v s", used, err, now, cpu)
	}
	if _, err := s.memoryMiB("VmRSS"); err == nil {
		t.Error("memory of a server that has ended")
	}
}

func TestStartProcess_EndsAtOnce(t *testing.T) {
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	_, err = startProcess(t.Context(), "test", addr, "sh", "-c", "echo 'port is taken'; exit 1")
	if err == nil || !strings.Contains(err.Error(), "port is taken") {
		t.Errorf("%v, want the output of the program", err)
	}
}
