// The last 15 minutes of a hub: one summary document a second, and what follows from them. Nothing
// here knows the page or the network.

export const historySeconds = 15 * 60;

// History holds the samples in the order of their time. A sample without a summary says that the
// hub did not answer.
export class History {
  samples = []; // { at: seconds since 1970, summary: object or null }
  restartedAt = null; // when a summary was the first one of another run of the hub

  get last() {
    return this.samples.at(-1);
  }

  // The summary of the last answer.
  get summary() {
    return this.samples.findLast((s) => s.summary)?.summary ?? null;
  }

  // The time since when the hub has not answered, or null.
  get silentSince() {
    if (!this.last || this.last.summary) return null;
    return this.samples[this.samples.findLastIndex((s) => s.summary) + 1].at;
  }

  add(at, summary) {
    const before = this.summary;
    if (before && summary && summary.started !== before.started) this.restartedAt = at;
    this.samples.push({ at, summary });
    const first = this.samples.findIndex((s) => s.at > at - historySeconds);
    this.samples.splice(0, first);
  }

  // The samples of the last seconds, and the one before them, from which their increases count.
  window(seconds) {
    const from = this.last ? this.last.at - seconds : 0;
    let first = this.samples.length;
    while (first > 0 && this.samples[first - 1].at > from) first--;
    return this.samples.slice(Math.max(0, first - 1));
  }

  // How much a counter has grown over the last seconds, as far as the samples reach back. A counter
  // that fell began again at 0 with a new hub.
  increase(seconds, read) {
    return increaseOf(this.window(seconds), read);
  }

  // The increase of a counter in each second, over the last seconds. Prometheus divides by the whole
  // window as well when its samples do not reach back that far.
  rate(seconds, read) {
    return this.increase(seconds, read) / seconds;
  }

  // The quantile of the latencies of the last seconds, in seconds, or null if nothing was measured.
  quantile(q, seconds) {
    return quantileOf(q, this.window(seconds));
  }

  // The columns of a plot: the times, then for each read function the increase per second of its
  // counter between two samples. A time without an answer is null.
  rateColumns(reads) {
    const columns = [[], ...reads.map(() => [])];
    for (let i = 1; i < this.samples.length; i++) {
      const [a, b] = [this.samples[i - 1], this.samples[i]];
      columns[0].push(b.at);
      reads.forEach((read, k) => {
        columns[k + 1].push(a.summary && b.summary ? growth(read(a.summary), read(b.summary)) / (b.at - a.at) : null);
      });
    }
    return columns;
  }

  // The columns of a plot: the times, then for each read function its values.
  valueColumns(reads) {
    return [this.samples.map((s) => s.at), ...reads.map((read) => this.samples.map((s) => (s.summary ? read(s.summary) : null)))];
  }

  // The columns of a plot: the times, then the quantiles of the latencies of the seconds before.
  quantileColumns(quantiles, seconds) {
    const columns = [[], ...quantiles.map(() => [])];
    let first = 0;
    for (let i = 0; i < this.samples.length; i++) {
      while (this.samples[first + 1]?.at <= this.samples[i].at - seconds) first++;
      columns[0].push(this.samples[i].at);
      const ends = this.samples[i].summary ? this.samples.slice(first, i + 1) : [];
      quantiles.forEach((q, k) => columns[k + 1].push(quantileOf(q, ends)));
    }
    return columns;
  }
}

function growth(before, after) {
  return after >= before ? after - before : after;
}

function increaseOf(samples, read) {
  let total = 0;
  let before = null;
  for (const { summary } of samples) {
    if (!summary) continue;
    const value = read(summary);
    if (before !== null) total += growth(before, value);
    before = value;
  }
  return total;
}

// The quantile between the first and the last of the samples, interpolated within its bucket as
// Prometheus does it.
function quantileOf(q, samples) {
  const bounds = samples.at(-1)?.summary?.latency?.bounds;
  if (!bounds) return null;
  const known = samples.filter((s) => s.summary);
  const last = known.at(-1).summary.latency.counts;
  let counts = last.map((n, i) => n - known[0].summary.latency.counts[i]);
  if (counts.some((n) => n < 0)) counts = last; // the hub was restarted in between
  const total = counts.reduce((a, b) => a + b, 0);
  if (total === 0 || known.length < 2) return null;
  let rank = q * total;
  const i = counts.findIndex((n) => (rank -= n) <= 0);
  if (i >= bounds.length || i < 0) return bounds.at(-1);
  const lower = i > 0 ? bounds[i - 1] : 0;
  return lower + (bounds[i] - lower) * ((rank + counts[i]) / counts[i]);
}
