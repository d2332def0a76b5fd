"""How the requests fare: how many, how fast, how often in vain. Its size does not depend on their number."""

import math
from collections import Counter, deque

_STEP = math.log(1.05)  # the width of a bucket: 5 % of the time it stands for
_BUCKETS = 400  # up to 1.05 ** 400 microseconds, some minutes
_RATE_SECONDS = 3.0


class Latencies:
    """Times of requests, in buckets that are 5 % wide."""

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self.count = 0

    def add(self, seconds: float) -> None:
        microseconds = max(1.0, seconds * 1e6)
        self._buckets[min(_BUCKETS - 1, int(math.log(microseconds) / _STEP))] += 1
        self.count += 1

    def milliseconds(self, share: float) -> float:
        """The time within which that share of the requests was answered; 0 before the first."""
        left = math.ceil(share * self.count)
        for bucket, count in enumerate(self._buckets):
            left -= count
            if left <= 0 < self.count:
                return math.exp((bucket + 0.5) * _STEP) / 1000
        return 0.0


class Traffic:
    """Of one run."""

    def __init__(self) -> None:
        self.latencies = Latencies()
        self.refusals: Counter[str] = Counter()
        self.hung_up = 0
        """Connections that we broke ourselves, in the midst of a request."""
        self.unanswered: Counter[str] = Counter()
        """Why others got no answer: no connection, a broken one, a 503."""
        self.repeated = 0
        """Requests that were sent more than once, however often."""
        self.done_already = 0
        """Repeated ones that the ledger had done the first time."""
        self.away_since: float | None = None
        """Since when nothing has been answered, on the clock of `rate`."""
        self.away_why = ""
        self._samples: deque[tuple[float, int]] = deque()

    def answered(self, seconds: float) -> None:
        self.latencies.add(seconds)
        self.away_since = None

    def in_vain(self, why: str, now: float) -> None:
        self.unanswered[why] += 1
        self.away_why = why
        if self.away_since is None:
            self.away_since = now

    def rate(self, now: float) -> float:
        """Answers a second of late. Args: seconds of a clock that never goes back."""
        self._samples.append((now, self.latencies.count))
        while now - self._samples[0][0] > _RATE_SECONDS and len(self._samples) > 1:
            self._samples.popleft()
        then, count = self._samples[0]
        return (self.latencies.count - count) / (now - then) if now > then else 0.0
