package main

import (
	"context"
	"fmt"
)

// hubFeatures are the optional features of a hub whose cost a scenario measures.
type hubFeatures struct {
	hasTLS, hasTokens, isMonitored bool
}

// measureFeatures runs a workload once, with a version of the protocol, on a hub with some
// features.
func measureFeatures(ctx context.Context, p *programs, wl workload, protocol int, features hubFeatures) (*measurement, error) {
	creds, err := newCredentials(p)
	if err != nil {
		return nil, err
	}
	var hubFlags, clientFlags []string
	host := "127.0.0.1"
	if features.hasTLS {
		hubFlags = append(hubFlags, "-tls-cert="+creds.certFile, "-tls-key="+creds.keyFile)
		clientFlags = append(clientFlags, "-ca="+creds.certFile)
		host = "hubs://" + host
	}
	if features.hasTokens {
		tokenFile, err := p.writeFile("token", creds.token)
		if err != nil {
			return nil, err
		}
		hubFlags = append(hubFlags, "-auth-keys="+creds.authKeysFile, "-rate-messages=1000000", "-rate-bytes=10GiB", "-max-per-address=1000", "-connect-rate=1000")
		clientFlags = append(clientFlags, "-token-file="+tokenFile)
	}
	if features.isMonitored {
		admin, err := freeAddr()
		if err != nil {
			return nil, err
		}
		hubFlags = append(hubFlags, "-admin="+admin)
		defer scrape(ctx, "http://"+admin+"/metrics")()
	}
	return withHub(ctx, p, hubFlags, func(s *server) (*measurement, error) {
		return simulate(ctx, p, wl, append(clientFlags, fmt.Sprint("-protocol=", protocol), "-addr="+host, "-port="+portOf(s.addr))...)
	})
}
