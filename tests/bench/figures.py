"""Numbers that were measured several times, and what became of a row."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct


class Samples(NamedTuple):
    """One thing, measured once a round."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def over(self, other: "Samples") -> "Samples":
        """The ratio round by round: what stood beside each other in time."""
        return Samples([mine / its for mine, its in zip(self.values, other.values, strict=True)])

    def __str__(self) -> str:
        """Median and range."""
        if self.median < 20:
            return f"{self.median:.2f} ({min(self.values):.2f} to {max(self.values):.2f})"
        return f"{self.median:,.0f} ({min(self.values):,.0f} to {max(self.values):,.0f})"

    @property
    def percent(self) -> str:
        return f"{self.median:.0%} ({min(self.values):.0%} to {max(self.values):.0%})"


class Section(Struct, frozen=True):
    """A part of the document by itself. `text`: Markdown; `pictures`: SVG, by the name of the file."""

    title: str
    text: str
    pictures: Mapping[str, str]


class Line(Struct, frozen=True):
    """A line of the table.

    `row`: the number in the list of what it must reach, with a letter where a row asks for several things.
    `reached`: `None` where nothing is asked of it. `beside`: further figures, in words. `command`: what
    repeats it, where that is not the row's own number.
    """

    row: str
    measure: str
    figure: str
    must: str = ""
    reached: bool | None = None
    beside: str = ""
    command: str = ""
    section: Section | None = None

    @property
    def number(self) -> int:
        """The row's, without a letter."""
        return int(self.row.rstrip("abc"))

    @property
    def repeat(self) -> str:
        return self.command or f"python -m tests.bench --rows {self.number}"

    @property
    def verdict(self) -> str:
        return {True: "reached", False: "**missed**", None: ""}[self.reached]


class Loaded(NamedTuple):
    """What a load came to. `answered`: good answers; `errors`: everything else, lost ones included."""

    answered: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        return self.answered / self.seconds


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank of sorted `values`; 0.0 of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def loaded(times: Iterable[float], errors: int, seconds: float) -> Loaded:
    """Sum up the good answers' times (seconds)."""
    ordered = sorted(times)
    p50, p99 = percentile(ordered, 0.5), percentile(ordered, 0.99)
    return Loaded(len(ordered), errors, seconds, p50 * 1000, p99 * 1000)
