"""When it is told that an account has little, or nothing: once when it falls, and again only after it has
risen well above, so that a balance that swings around its threshold is not told of each time.
"""

from typing import NamedTuple


class Level(NamedTuple):
    """What was told of an account, or need not be: less than its threshold is available; nothing is."""

    low: bool
    depleted: bool


def implied(available: int, threshold: int) -> Level:
    """The level of an account of which only the balance is known. `threshold` 0: it has none."""
    return Level(low=0 < threshold > available, depleted=available <= 0)


def moved(before: Level, available: int, threshold: int) -> Level:
    """The level after an entry. What is in it and was not in `before` is to be told.

    Both are armed again a tenth above the threshold; where there is none, as soon as there is anything.
    """
    now = implied(available, threshold)
    has_risen = available * 10 >= threshold * 11
    return Level(
        low=now.low or (before.low and threshold > 0 and not has_risen),
        depleted=now.depleted or (before.depleted and not has_risen),
    )
