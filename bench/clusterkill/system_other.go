//go:build !linux

package main

import "syscall"

// Only Linux has network namespaces: the program fails before it uses these.
const (
	signalStop   = syscall.SIGKILL
	signalResume = syscall.SIGKILL
)

func childAttr() *syscall.SysProcAttr { return nil }

func childAttrInNetwork() *syscall.SysProcAttr { return nil }
