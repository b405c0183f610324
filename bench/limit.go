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

// measureLimit moves the bytes of a workload through bare sockets, or through bare connections
// of crypto/tls if creds is not nil. It moves as many bytes as a hub would write and discards
// them.
func measureLimit(ctx context.Context, p *programs, wl workload, creds *credentials) (*measurement, error) {
	bytesPerClient := uint64(wl.clients-1) * uint64(wl.messages) * uint64(wire.RelayDeliveryLen(wl.size))
	clientsFlag := "-clients=" + strconv.Itoa(wl.clients)
	write := []string{"write", clientsFlag, "-bytes=" + strconv.FormatUint(bytesPerClient, 10)}
	read := []string{"read", clientsFlag}
	if creds != nil {
		write = append(write, "-cert="+creds.certFile, "-key="+creds.keyFile)
		read = append(read, "-ca="+creds.certFile)
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
	seconds, err := readLimitResult(lines, uint64(wl.clients)*bytesPerClient)
	if err != nil {
		return nil, err
	}
	if err := writer.Wait(); err != nil {
		return nil, fmt.Errorf("writer: %w", err)
	}
	return &measurement{
		Seconds: seconds, Deliveries: wl.deliveries(), Expected: wl.deliveries(),
		Server: usage{CPU: processCPUSeconds(writer)}, LoadCPU: processCPUSeconds(reader),
	}, nil
}

// readLimitResult reads the writer's result and checks that the writer moved want bytes.
func readLimitResult(lines io.Reader, want uint64) (seconds float64, err error) {
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
