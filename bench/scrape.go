package main

import (
	"context"
	"io"
	"net/http"
	"time"
)

// scrapeInterval is the interval at which a monitored hub is scraped. Prometheus scrapes a
// thirtieth as often by default.
const scrapeInterval = 500 * time.Millisecond

// scrape requests a page at scrapeInterval until the returned function is called.
func scrape(ctx context.Context, page string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		ticker := time.NewTicker(scrapeInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fetchPage(ctx, page)
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// fetchPage reads a page to its end. It ignores errors, because the hub can be starting or
// ending.
func fetchPage(ctx context.Context, page string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return
	}
	if resp, err := http.DefaultClient.Do(request); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
