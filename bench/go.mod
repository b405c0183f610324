module github.com/sechlol/go-message-hub/bench

go 1.26.0

require github.com/sechlol/go-message-hub v0.0.0

require (
	github.com/HdrHistogram/hdrhistogram-go v1.4.0 // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/sechlol/go-message-hub => ../
