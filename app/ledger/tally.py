"""What the engine has done in this process, counted in plain numbers, which are never reset.

Counting is part of every operation, so it is a look into a dict and an addition; whoever shows the numbers
makes of them what it needs.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from app.ledger.errors import LedgerError
from app.ledger.operations import Write

CALL_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
CALL_OPERATIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Histogram:
    """How many were at most each of `bounds`, which ascend; the last of `counts` are those beyond all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """One more."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, other: "Histogram") -> None:
        """All that another one of the same bounds has seen."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


class _Entry(Protocol):
    @property
    def amount(self) -> int: ...


class Done(Protocol):
    """A receipt, as far as it is counted."""

    @property
    def replayed(self) -> bool: ...
    @property
    def entry(self) -> _Entry: ...


class Tally:
    """`operations`: by verb and outcome: `done`, `replayed`, or the word of the error.
    `credits`: those that were moved, by verb. `calls` are those of the script, answered after so many
    seconds; `sizes` how many operations travelled in each; `unanswered` those of which no answer came.
    """

    __slots__ = ("calls", "credits", "operations", "sizes", "unanswered")

    def __init__(self) -> None:
        self.operations: Counter[tuple[type[Write], str]] = Counter()
        self.credits: Counter[type[Write]] = Counter()
        self.calls = Histogram(CALL_SECONDS)
        self.sizes = Histogram(CALL_OPERATIONS)
        self.unanswered = 0

    def call(self, operations: int, seconds: float) -> None:
        """A call was answered."""
        self.calls.observe(seconds)
        self.sizes.observe(operations)

    def count(self, operation: Write, outcome: Done | LedgerError) -> None:
        """What became of an operation."""
        verb = type(operation)
        if isinstance(outcome, LedgerError):
            self.operations[verb, outcome.word] += 1
        elif outcome.replayed:
            self.operations[verb, "replayed"] += 1
        else:
            self.operations[verb, "done"] += 1
            self.credits[verb] += abs(outcome.entry.amount)
