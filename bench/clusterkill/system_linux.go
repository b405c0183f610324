package main

import "syscall"

// Signals that stop a process and let it go on.
const (
	signalStop   = syscall.SIGSTOP
	signalResume = syscall.SIGCONT
)

// childAttr makes a process end with this one, and get no Ctrl-C of the terminal.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// childAttrInNetwork is childAttr for a process in a network namespace of its own.
func childAttrInNetwork() *syscall.SysProcAttr {
	attr := childAttr()
	attr.Cloneflags = syscall.CLONE_NEWNET
	return attr
}
