"""How far PostgreSQL is behind Redis, and for how long that may go on."""

import time
from collections.abc import Callable, Mapping, Sequence

from app.rules import Rule
from persistence.doctor.between import Bounds
from persistence.health.seen import Seen, counted
from persistence.lacking import Lacking

RATE_SECONDS = 5.0
"""Between two looks that a rate is made of, at least."""


def lag(found: Sequence[Lacking], rules: Mapping[str, Rule]) -> Seen:
    """The age of the oldest entry that PostgreSQL lacks."""
    oldest = max(found, key=lambda each: each.age_seconds, default=Lacking(0, 0, 0, 0.0))
    seconds = round(oldest.age_seconds, 3)
    where = f" (shard {oldest.shard})" if seconds else ""
    says = f"The oldest entry that PostgreSQL lacks is {seconds:.1f} s old{where}."
    return counted(rules["journal_lag"], seconds, says, do="Are workers at work, and does PostgreSQL answer?")


class Backlog:
    """Remembers the look before, for the rate."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds = bounds
        self._clock = clock
        self._before: dict[int, float] = {}
        self._before_at = 0.0
        self._rates: dict[int, float] = {}

    def judged(self, found: Sequence[Lacking], rules: Mapping[str, Rule]) -> Seen:
        """How full the fullest shard is, and for how many minutes the bound is away at the present rate."""
        bounds = self._bounds
        full = {each.shard: each.fullness(bounds.backlog_max, bounds.backlog_bytes_max) for each in found}
        self._heed(full)
        entries = sum(each.entries for each in found)
        says = f"{entries:,} entries that PostgreSQL lacks"
        if not full:
            return counted(rules["backlog"], 0, f"{says}.")
        fullest = max(full, key=full.__getitem__)
        says += f"; shard {fullest} is at {full[fullest]:.1%} of its bound"
        minutes = self._minutes(full)
        if minutes is not None:
            says += f", which is reached in {minutes:,.0f} minutes at the present rate"
        do = "Are workers at work, and is PostgreSQL fast enough? At the bound new work is refused."
        return counted(rules["backlog"], round(full[fullest], 4), f"{says}.", do=do)

    def _heed(self, full: Mapping[int, float]) -> None:
        passed = self._clock() - self._before_at
        if self._before and passed < RATE_SECONDS:
            return
        if self._before:
            self._rates = {
                shard: (full[shard] - before) / passed
                for shard, before in self._before.items()
                if shard in full
            }
        self._before, self._before_at = dict(full), self._clock()

    def _minutes(self, full: Mapping[int, float]) -> float | None:
        """Until the first shard is full; `None`: none is becoming fuller, or nothing is known yet."""
        left = [
            max(0.0, 1 - full[shard]) / rate / 60
            for shard, rate in self._rates.items()
            if rate > 0 and shard in full
        ]
        return min(left, default=None)
