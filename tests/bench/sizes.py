"""How much is measured, and who is told how far it is."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from rich.progress import Progress, TaskID

from tests.bench.figures import Samples

WARM_UP_SECONDS = 1.0


class Sizes(NamedTuple):
    """`rounds`: how often each thing is measured, in turns; `seconds`: for how long each time; `growth_max`:
    the accounts of the largest ledger that is made.
    """

    rounds: int
    seconds: float
    growth_max: int


class Told:
    """The progress line of one row."""

    def __init__(self, progress: Progress, line: TaskID) -> None:
        self._progress = progress
        self._line = line
        self._expected = 0

    def expect(self, steps: int) -> None:
        """So many more are to come."""
        self._expected += steps
        self._progress.update(self._line, total=self._expected)

    def step(self, what: str) -> None:
        """One more is done, and this is what it came to."""
        self._progress.update(self._line, advance=1, what=what)

    def say(self, what: str) -> None:
        self._progress.update(self._line, what=what)


def in_turns(
    things: Mapping[str, Callable[[float], float]], sizes: Sizes, told: Told, *, unit: str = "/s"
) -> dict[str, Samples]:
    """Measure each thing once a round, A-B-B-A, because to come first or last may be a disadvantage. A short
    round before them warms everything up.

    Each thing is called with the seconds that it may take, and returns what it came to.
    """
    told.expect(len(things) * (sizes.rounds + 1))
    values: dict[str, list[float]] = {name: [] for name in things}
    for round_ in range(sizes.rounds + 1):
        for name, measure in list(things.items())[:: 1 if round_ % 2 else -1]:
            value = measure(sizes.seconds if round_ else min(WARM_UP_SECONDS, sizes.seconds))
            told.step(f"{name} {value:,.0f}{unit}")
            if round_:
                values[name].append(value)
    return {name: Samples(found) for name, found in values.items()}
