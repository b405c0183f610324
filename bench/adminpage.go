package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// collectGarbage runs two garbage collections in a hub, because pooled memory survives one.
func collectGarbage(ctx context.Context, adminAddr string) error {
	for range 2 {
		if _, err := readAdminPage(ctx, adminAddr, "/debug/pprof/heap?gc=1", nil); err != nil {
			return err
		}
	}
	return nil
}

// memoryInUse returns the memory that a hub has in use on its heap and its stacks after
// collectGarbage, in KiB.
func memoryInUse(ctx context.Context, adminAddr string) (kib float64, err error) {
	if err := collectGarbage(ctx, adminAddr); err != nil {
		return 0, err
	}
	var heap, stacks float64
	found, err := readAdminPage(ctx, adminAddr, "/metrics", map[string]*float64{
		"go_memstats_heap_inuse_bytes": &heap, "go_memstats_stack_inuse_bytes": &stacks,
	})
	if err == nil && found < 2 {
		err = fmt.Errorf("found %d of 2 metrics", found)
	}
	return (heap + stacks) / 1024, err
}

// readAdminPage reads a page of the admin address of a hub and parses the values of the metrics in
// values. It returns how many of them it found.
func readAdminPage(ctx context.Context, adminAddr, page string, values map[string]*float64) (found int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+adminAddr+page, nil)
	if err != nil {
		return 0, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	scanner := bufio.NewScanner(resp.Body)
	for scanner.Scan() {
		name, value, _ := strings.Cut(scanner.Text(), " ")
		if v := values[name]; v != nil {
			if *v, err = strconv.ParseFloat(value, 64); err != nil {
				return found, err
			}
			found++
		}
	}
	if err := scanner.Err(); err != nil && values != nil {
		return found, err
	}
	return found, nil
}
