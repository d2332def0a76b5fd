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
        self.why = ""
        """Why there was no answer the last time; empty where one has come since."""
        self._in_flight = 0
        self._quiet_since = 0.0
        self._samples: deque[tuple[float, int]] = deque()
        self._mean: float | None = None

    def sent(self, now: float) -> None:
        """Each is followed by one of `answered`, `in_vain` and `cut_off`. The clock never goes back."""
        if not self._in_flight and not self.why:
            self._quiet_since = now
        self._in_flight += 1

    def answered(self, seconds: float, now: float) -> None:
        self._in_flight -= 1
        self._quiet_since, self.why = now, ""
        self.latencies.add(seconds)

    def in_vain(self, why: str) -> None:
        self._in_flight -= 1
        self.unanswered[why] += 1
        self.why = why

    def cut_off(self) -> None:
        self._in_flight -= 1
        self.hung_up += 1

    def silence(self, now: float) -> float:
        """For how many seconds nothing has been answered although somebody asks."""
        return now - self._quiet_since if self._in_flight or self.why else 0.0

    def settle(self, seconds: float) -> None:
        """From now on the rate is that of the time behind us, which has taken so long."""
        self._mean = self.latencies.count / seconds

    def rate(self, now: float) -> float:
        """Answers a second of late. Args: seconds of a clock that never goes back."""
        if self._mean is not None:
            return self._mean
        self._samples.append((now, self.latencies.count))
        while now - self._samples[0][0] > _RATE_SECONDS and len(self._samples) > 1:
            self._samples.popleft()
        then, count = self._samples[0]
        return (self.latencies.count - count) / (now - then) if now > then else 0.0
