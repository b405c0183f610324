package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/sechlol/go-message-hub/internal/cluster"
)

// counterKey is the key of the last number that a hub has taken, as decimal text. The key is
// kept for ever.
const counterKey = "counter"

// The pauses between attempts to take a number while other hubs take numbers too.
const (
	minConflictPause = 5 * time.Millisecond
	maxConflictPause = 500 * time.Millisecond
)

// ErrUsedUp means that the counter has reached cluster.MaxNode: 4,194,303 starts of hubs.
var ErrUsedUp = errors.New("all numbers for hubs of this cluster are used up")

// ErrCounter means that the counter is not a number: something else than a hub has written it.
var ErrCounter = errors.New("the counter of the cluster is not a number")

// takeNumber returns the next number of the counter. No other call returns the same number, also
// if an answer of the store is lost: the number is then skipped.
func takeNumber(ctx context.Context, counter Store) (cluster.Node, error) {
	for pause := minConflictPause; ; pause = min(2*pause, maxConflictPause) {
		n, err := tryNumber(ctx, counter)
		if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrExists) {
			return n, err
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, ctx.Err()
		}
	}
}

// tryNumber makes one attempt. The error is ErrExists or ErrConflict if another hub was faster.
func tryNumber(ctx context.Context, counter Store) (cluster.Node, error) {
	text, revision, err := counter.Get(ctx, counterKey)
	if errors.Is(err, ErrNotFound) {
		_, err = counter.Create(ctx, counterKey, formatNode(1))
		return 1, err
	}
	if err != nil {
		return 0, err
	}
	last, err := strconv.ParseUint(string(text), 10, 32)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w; it is %.40q", ErrCounter, text)
	case last >= uint64(cluster.MaxNode):
		return 0, ErrUsedUp
	}
	next := cluster.Node(last) + 1
	_, err = counter.Update(ctx, counterKey, formatNode(next), revision)
	return next, err
}

func formatNode(n cluster.Node) []byte { return strconv.AppendUint(nil, uint64(n), 10) }
