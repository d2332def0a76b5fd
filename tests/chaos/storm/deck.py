"""In which order things go wrong: a shuffled deck of all faults, dealt to its end, and shuffled again.

So that each kind happens about equally often, and a short storm has as many kinds as faults.
"""

from collections.abc import Sequence
from random import Random

from tests.chaos.storm.scene import Fault

TWO_SHARE = 0.25


class Deck:
    """An endless deck of the faults of `kinds`."""

    def __init__(self, kinds: Sequence[Fault], rng: Random) -> None:
        self._kinds = kinds
        self._rng = rng
        self._left: list[Fault] = []

    def deal(self, count_max: int) -> list[Fault]:
        """What happens next: one fault, or now and then two at the same moment, to different parts."""
        first = self._draw()
        if count_max < 2 or self._rng.random() >= TWO_SHARE:
            return [first]
        second = self._draw()
        if first.victim == second.victim:
            self._left.append(second)
            return [first]
        return [first, second]

    def _draw(self) -> Fault:
        if not self._left:
            self._left = list(self._kinds)
            self._rng.shuffle(self._left)
        return self._left.pop()
