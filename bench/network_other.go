//go:build !linux

package main

import "syscall"

// newNetwork returns nil: only Linux has network namespaces. The programs that need one fail.
func newNetwork() *syscall.SysProcAttr { return nil }
