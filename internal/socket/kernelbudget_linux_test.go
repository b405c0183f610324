package socket

import (
	"os"
	"testing"
	"testing/fstest"
)

// TestKernelMemory reads the files of machines, containers and services.
func TestKernelMemory(t *testing.T) {
	page := int64(os.Getpagesize())
	const tcpMem, cgroup = "proc/sys/net/ipv4/tcp_mem", "proc/self/cgroup"
	for name, test := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"nothing is known":            {nil, 64 << 20},
		"a machine":                   {map[string]string{tcpMem: "100000\t200000\t300000\n", cgroup: "0::/\n"}, 75_000 * page},
		"a container without a limit": {map[string]string{cgroup: "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 64 << 20},
		"a container":                 {map[string]string{cgroup: "0::/\n", "sys/fs/cgroup/memory.max": "134217728\n"}, 32 << 20},
		"a service": {map[string]string{
			tcpMem: "100000\t200000\t300000\n", cgroup: "0::/system.slice/hub.service\n",
			"sys/fs/cgroup/system.slice/hub.service/memory.max": "134217728\n",
			"sys/fs/cgroup/system.slice/memory.max":             "max\n",
		}, 32 << 20},
		"a service in a slice with less": {map[string]string{
			cgroup: "0::/a.slice/hub.service\n",
			"sys/fs/cgroup/a.slice/hub.service/memory.max": "134217728\n",
			"sys/fs/cgroup/a.slice/memory.max":             "67108864\n",
		}, 16 << 20},
		"version 1": {map[string]string{
			cgroup: "5:cpu,cpuacct:/x\n4:memory:/x\n1:name=systemd:/x\n0::/x\n",
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "134217728\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":   "9223372036854771712\n",
		}, 32 << 20},
		"unknown contents": {map[string]string{tcpMem: "?\n", cgroup: "?\n::\n"}, 64 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			root := make(fstest.MapFS)
			for path, text := range test.files {
				root[path] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := kernelMemoryOf(root); got != test.want {
				t.Errorf("%d bytes, want %d", got, test.want)
			}
		})
	}
}
