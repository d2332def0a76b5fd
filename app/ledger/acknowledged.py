"""What this process has answered "done" and PostgreSQL may not have yet: bounded, and only in memory.

When another Redis is admitted that ends before such an answer, the answer was lost with the one before.
Nobody can give it back, but it is said which operations it was (`persistence.acknowledged`).
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

EACH_MAX = 4096
"""Of one shard. Of more than that only the last are named; the range is told whole."""


class Given(NamedTuple):
    """An answer. `key`: the caller's, where there was one."""

    sequence: int
    incarnation: int
    key: str | None


class Lost(NamedTuple):
    """What a shard that was admitted as `incarnation`, ending at `ends`, does not have. In order."""

    shard: int
    incarnation: int
    ends: int
    given: list[Given]


class Acknowledged:
    """One for each process. Not for several threads."""

    def __init__(self, each_max: int = EACH_MAX) -> None:
        self._each_max = each_max
        self._given: dict[int, deque[Given]] = {}
        self._lost_at: float | None = None

    def keep(self, shard: int, sequence: int, incarnation: int, key: str | None) -> None:
        """Note an answer that is being given."""
        given = self._given.get(shard)
        if given is None:
            given = self._given[shard] = deque(maxlen=self._each_max)
        given.append(Given(sequence, incarnation, key))

    def lost(self, shard: int, incarnation: int, ends: int) -> Lost | None:
        """What was answered under an earlier number and comes after the end of what was admitted."""
        kept = self._given.get(shard)
        if not kept or kept[0].incarnation >= incarnation:  # calls are one after the other, numbers only rise
            return None
        given = [each for each in kept if each.incarnation < incarnation and each.sequence > ends]
        given.sort(key=lambda each: each.sequence)
        return Lost(shard, incarnation, ends, given) if given else None

    def forget(self, lost: Lost) -> None:
        """It has been reported."""
        self._lost_at = time.monotonic()
        gone = set(lost.given)
        given = self._given[lost.shard]
        self._given[lost.shard] = deque((each for each in given if each not in gone), self._each_max)

    def journaled(self, shard: int, cursor: int) -> None:
        """PostgreSQL has everything up to `cursor`."""
        given = self._given.get(shard)
        while given and given[0].sequence <= cursor:
            given.popleft()

    def open(self) -> Iterator[int]:
        """The shards of which PostgreSQL may lack an answer."""
        return (shard for shard, given in self._given.items() if given)

    def has_lost(self, seconds: float) -> bool:
        """Whether anything was found lost within the last `seconds`."""
        return self._lost_at is not None and time.monotonic() - self._lost_at < seconds
