"""Whether something has grown: its first third is held against its last, when it has warmed up.

Medians of the thirds, so that a moment in which the machine was busy with something else says nothing.
"""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

WARM_UP_SHARE = 0.2
"""Of a run: caches fill, pools open, and the load comes to what it will be."""

LOOKS_MIN = 15
"""Of fewer looks the thirds are too short to say anything."""


class Bound(NamedTuple):
    """How much more the last third may be than the first: a share of that, and so much besides.

    `bytes_each`: instead `more` bounds the bytes that it grew by for each operation meanwhile, for what has
    to remember them; so many bytes are one unit.
    """

    share: float
    more: float
    bytes_each: int = 0


class Series(NamedTuple):
    """What was seen of one thing, look by look, in `unit`s."""

    name: str
    unit: str
    bound: Bound
    values: Sequence[float]


class Verdict(NamedTuple):
    """`grown`: what is held against `most`."""

    name: str
    unit: str
    first: float
    last: float
    grown: float
    most: float
    bytes_each: int = 0

    @property
    def holds(self) -> bool:
        return self.grown <= self.most

    def __str__(self) -> str:
        """What it came to, and what was allowed."""
        told = f"{self.name} {self.first:,.4g} to {self.last:,.4g} {self.unit}"
        if self.bytes_each:
            told += f", {self.grown:,.0f} bytes an operation (at most {self.most:,.0f})"
        else:
            told += f" (at most {self.most:,.4g})"
        return told if self.holds else f"**{told}**"


class TooShort(Exception):
    """There were too few looks to judge by."""


def judge(series: Sequence[Series], operations: Sequence[int]) -> list[Verdict]:
    """What each thing came to.

    Args:
        series: With as many values as there were looks, in order.
        operations: How many had been answered, look by look.

    Raises:
        TooShort: Fewer than `LOOKS_MIN` looks.
    """
    if len(operations) < LOOKS_MIN:
        raise TooShort(f"{len(operations)} looks are too few to judge by; let it run longer.")
    return [_judged(each, operations) for each in series]


def _judged(series: Series, operations: Sequence[int]) -> Verdict:
    bound = series.bound
    first, last = thirds(series.values)
    if bound.bytes_each:
        begun, ended = thirds(operations)
        grown, most = bound.bytes_each * (last - first) / max(1.0, ended - begun), bound.more
    else:
        grown, most = last, first * (1 + bound.share) + bound.more
    return Verdict(series.name, series.unit, first, last, grown, most, bound.bytes_each)


def thirds(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first and of the last third of what comes after the warm-up."""
    warm = values[int(WARM_UP_SHARE * len(values)) :]
    third = len(warm) // 3
    return statistics.median(warm[:third]), statistics.median(warm[-third:])
