package simulation

// sampleThreshold, sampleBits and sampleOneIn configure the sampling of latency. Reading the
// clock and recording a latency take several times as long as all other work for a small
// message, and the hub shares the processors. Therefore a run with more than sampleThreshold
// deliveries measures one delivery in sampleOneIn. The header alone selects the samples,
// independently of what the hub does, and each sample is exact. With more than 8,192 samples
// the quantiles do not suffer; the maximum is that of the samples.
const (
	sampleThreshold = 1 << 16
	sampleBits      = 3
	sampleOneIn     = 1 << sampleBits
)

// latencyOneIn returns n if a run with this plan measures latency for one message in n.
func latencyOneIn(plan Plan) int {
	if plan.Deliveries > sampleThreshold {
		return sampleOneIn
	}
	return 1
}
