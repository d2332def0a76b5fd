"""How much is measured, and who is told how far it is."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from rich.progress import Progress, TaskID

from tests.bench.figures import Samples


class Sizes(NamedTuple):
    """`rounds`: how often each thing is measured, in turns; `seconds`: for how long each time."""

    rounds: int
    seconds: float


class Told:
    """The progress line of one row."""

    def __init__(self, progress: Progress, line: TaskID) -> None:
        self._progress = progress
        self._line = line

    def expect(self, steps: int) -> None:
        self._progress.update(self._line, total=steps)

    def step(self, what: str) -> None:
        """One more is done, and this is what it came to."""
        self._progress.update(self._line, advance=1, what=what)

    def say(self, what: str) -> None:
        self._progress.update(self._line, what=what)


def in_turns(
    things: Mapping[str, Callable[[], float]], rounds: int, told: Told, *, unit: str = "/s"
) -> dict[str, Samples]:
    """Measure each thing once a round, A-B-A-B. The first round warms everything up and does not count."""
    told.expect(len(things) * (rounds + 1))
    values: dict[str, list[float]] = {name: [] for name in things}
    for round_ in range(rounds + 1):
        for name, measure in things.items():
            value = measure()
            told.step(f"{name} {value:,.0f}{unit}")
            if round_ > 0:
                values[name].append(value)
    return {name: Samples(found) for name, found in values.items()}
