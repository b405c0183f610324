package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/sechlol/go-message-hub/wire"
)

// measureLimit moves the bytes of a pattern through bare sockets, or through bare connections of
// crypto/tls if there are secrets: as many as a hub would write, and nobody looks at them.
func measureLimit(ctx context.Context, p *programs, s pattern, over *secrets) (*measured, error) {
	each := uint64(s.clients-1) * uint64(s.messages) * uint64(wire.DeliveryLen(s.size)) // bytes for each client
	clients := "-clients=" + strconv.Itoa(s.clients)
	write := []string{"write", clients, "-bytes=" + strconv.FormatUint(each, 10)}
	read := []string{"read", clients}
	if over != nil {
		write = append(write, "-cert="+over.cert, "-key="+over.key)
		read = append(read, "-ca="+over.cert)
	}
	writer := exec.CommandContext(ctx, p.path("limit"), write...)
	writer.Stderr = os.Stderr
	stdout, err := writer.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := writer.Start(); err != nil {
		return nil, err
	}
	defer writer.Process.Kill()
	lines := bufio.NewReader(stdout)
	addr, err := lines.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("address of the writer: %w", err)
	}
	reader := exec.CommandContext(ctx, p.path("limit"), append(read, "-addr="+strings.TrimSpace(addr))...)
	if out, err := reader.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("reader: %w\n%s", err, out)
	}
	seconds, err := limitResult(lines, uint64(s.clients)*each)
	if err != nil {
		return nil, err
	}
	if err := writer.Wait(); err != nil {
		return nil, fmt.Errorf("writer: %w", err)
	}
	return &measured{
		Seconds: seconds, Deliveries: s.deliveries(), Expected: s.deliveries(),
		Server: cost{CPU: cpuOf(writer)}, LoadCPU: cpuOf(reader),
	}, nil
}

// limitResult reads how long the writer took for that many bytes.
func limitResult(lines io.Reader, want uint64) (seconds float64, err error) {
	var result struct {
		Seconds float64 `json:"seconds"`
		Bytes   uint64  `json:"bytes"`
	}
	b, err := io.ReadAll(lines)
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(b, &result); err != nil {
		return 0, err
	}
	if result.Bytes != want {
		return 0, fmt.Errorf("limit moved %d bytes, want %d", result.Bytes, want)
	}
	return result.Seconds, nil
}
