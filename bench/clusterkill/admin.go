package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// adminToken is the bearer token of the admin addresses, which only this network can reach.
const adminToken = "clusterkill-clusterkill-clusterkill"

// hubState is what a hub says of itself at the end.
type hubState struct {
	Goroutines  float64 `json:"goroutines"`
	HeapMiB     float64 `json:"heap_mib"`
	ResidentMiB float64 `json:"resident_mib"`
	QueuedBytes float64 `json:"queued_bytes"`
	Files       float64 `json:"files"`
}

// readState reads the metrics of a hub after garbage collections.
func (a *arena) readState(ctx context.Context, hub int) (s hubState, err error) {
	for range 2 { // pooled memory survives one
		if err := a.readAdmin(ctx, hub, "/debug/pprof/heap?gc=1", nil); err != nil {
			return s, err
		}
	}
	err = a.readAdmin(ctx, hub, "/metrics", map[string]*float64{
		"go_goroutines": &s.Goroutines, "go_memstats_heap_alloc_bytes": &s.HeapMiB,
		"process_resident_memory_bytes": &s.ResidentMiB, "messagehub_queued_bytes": &s.QueuedBytes, "process_open_fds": &s.Files,
	})
	s.HeapMiB /= 1 << 20
	s.ResidentMiB /= 1 << 20
	return s, err
}

// readAdmin reads a page of the admin address of a hub, and the values of metrics, all of which
// must be there.
func (a *arena) readAdmin(ctx context.Context, hub int, page string, values map[string]*float64) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.hubs[hub].place.ip+":"+adminPort+page, nil)
	if err != nil {
		return err
	}
	request.Close = true
	request.Header.Set("Authorization", "Bearer "+adminToken)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s of %s: %s", page, a.hubs[hub].name, response.Status)
	}
	if values == nil {
		return nil
	}
	found := 0
	scanner := bufio.NewScanner(response.Body)
	for scanner.Scan() {
		name, value, _ := strings.Cut(scanner.Text(), " ")
		if v := values[name]; v != nil {
			if *v, err = strconv.ParseFloat(value, 64); err != nil {
				return err
			}
			found++
		}
	}
	if err := scanner.Err(); err != nil {
		return err
	}
	if found < len(values) {
		return fmt.Errorf("%s: %d of %d metrics", a.hubs[hub].name, found, len(values))
	}
	return nil
}
