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

// unknownKernelRoom is the room where the kernel does not say what it may hold, as in a network
// namespace of a container.
const unknownKernelRoom = 64 << 20

// kernelMemory returns how many bytes the kernel may be asked to hold for those who do not read
// yet: see DefaultKernelRoom.
func kernelMemory() int64 { return kernelMemoryOf(os.DirFS("/")) }

// kernelMemoryOf is kernelMemory for a file system.
func kernelMemoryOf(root fs.FS) int64 {
	room := int64(unknownKernelRoom)
	if pages, ok := numberIn(root, "proc/sys/net/ipv4/tcp_mem"); ok {
		room = pages * int64(os.Getpagesize()) / 4 * 3
	}
	return min(room, cgroupMemory(root)/4)
}

// cgroupMemory returns how much memory the control groups of this process allow it, in bytes: the
// least of its own and of those above it. Without a limit that is math.MaxInt64.
//
// A process in a cgroup namespace, as in most containers, sees its own group as "/". One of systemd
// does not.
func cgroupMemory(root fs.FS) int64 {
	least := int64(math.MaxInt64)
	all, _ := fs.ReadFile(root, "proc/self/cgroup") // there is none without control groups
	lines := bufio.NewScanner(bytes.NewReader(all))
	for lines.Scan() { // number:controllers:path
		fields := strings.SplitN(lines.Text(), ":", 3)
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
			if max, ok := numberIn(root, path.Join(mount, group, file)); ok {
				least = min(least, max)
			}
			if group == "/" {
				break
			}
		}
	}
	return least
}

// numberIn returns the number with which a file begins, if it does.
func numberIn(root fs.FS, name string) (n int64, ok bool) {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, false
	}
	_, err = fmt.Sscan(string(b), &n) // memory.max may say "max"
	return n, err == nil
}
