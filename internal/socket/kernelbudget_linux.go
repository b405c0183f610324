package socket

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
)

// fallbackKernelBudget is the limit, in bytes, where the kernel does not publish tcp_mem, as
// in the network namespace of a container.
const fallbackKernelBudget = 64 << 20

// kernelMemory returns how many bytes of unread data the kernel can be asked to hold: see
// DefaultKernelBudget.
func kernelMemory() int64 { return kernelMemoryOf(os.DirFS("/")) }

// kernelMemoryOf is kernelMemory for a given file system.
func kernelMemoryOf(root fs.FS) int64 {
	limit := int64(fallbackKernelBudget)
	if pages, ok := readNumber(root, "proc/sys/net/ipv4/tcp_mem"); ok {
		limit = pages * int64(os.Getpagesize()) / 4 * 3
	}
	return min(limit, cgroupMemory(root)/4)
}

// cgroupMemory returns the memory limit of the control groups of this process, in bytes: the
// minimum of its own group and all groups above. Without a limit it returns math.MaxInt64.
//
// In a cgroup namespace, as in most containers, a process sees its own group as "/". A process
// started by systemd does not.
func cgroupMemory(root fs.FS) int64 {
	limit := int64(math.MaxInt64)
	data, _ := fs.ReadFile(root, "proc/self/cgroup") // the file does not exist without control groups
	scanner := bufio.NewScanner(bytes.NewReader(data))
	for scanner.Scan() { // number:controllers:path
		fields := strings.SplitN(scanner.Text(), ":", 3)
		if len(fields) < 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max" // version 2
		if fields[1] != "" {
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
			if fields[1] != "memory" {
				continue
			}
		}
		for group := path.Join("/", fields[2]); ; group = path.Dir(group) {
			if n, ok := readNumber(root, path.Join(mount, group, file)); ok {
				limit = min(limit, n)
			}
			if group == "/" {
				break
			}
		}
	}
	return limit
}

// readNumber returns the number at the beginning of a file. ok is false if there is none.
func readNumber(root fs.FS, name string) (n int64, ok bool) {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, false
	}
	_, err = fmt.Sscan(string(b), &n) // memory.max can contain "max"
	return n, err == nil
}
